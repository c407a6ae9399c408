import { expect } from 'vitest';
import { EventParser, type Lesson } from '../../src/lib/api/events';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import type { Server } from '../harness/server';

/** Players say it every ten seconds, and a page is told every five. */
const SAID_MS = 60_000;

test('what a student sees and hears is told, and how far behind', async ({ server, student, teach }) => {
  teach({ ...LESSONS.aac48Stereo });
  await student.plays();
  const { reporting, seeing, hearing, struggling, delay_ms } = await told(
    server,
    ({ hearing }) => hearing === 1,
  );
  expect([reporting, seeing, hearing]).toEqual([1, 1, 1]);
  console.log(`${delay_ms} ms behind the server, ${struggling} struggling`);
  expect(delay_ms).toBeGreaterThan(0);
  expect(delay_ms).toBeLessThan(2_000);

  await student.page.keyboard.press('m');
  const muted = await told(server, ({ hearing }) => hearing === 0);
  expect([muted.seeing, muted.hearing]).toEqual([1, 0]);
});

type Told = Lesson & Record<'reporting' | 'seeing' | 'hearing' | 'struggling' | 'delay_ms', number>;

/** Listens as a page does, until the server says something of a kind. */
async function told(server: Server, isSo: (lesson: Told) => boolean): Promise<Told> {
  const url = `http://${server.ready.http}/api/v1/events?class=${server.ready.class}`;
  const response = await fetch(url, { signal: AbortSignal.timeout(SAID_MS) });
  const reader = response.body?.getReader();
  if (reader === undefined) throw new Error('there is nothing to read');
  const decoder = new TextDecoder();
  const found: Told[] = [];
  const parser = new EventParser((_, data) => {
    const lesson = JSON.parse(data) as Told;
    if (lesson.reporting > 0 && isSo(lesson)) found.push(lesson);
  });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error('the server said no more');
    parser.push(decoder.decode(value, { stream: true }));
    const [first] = found;
    if (first === undefined) continue;
    await reader.cancel();
    return first;
  }
}
