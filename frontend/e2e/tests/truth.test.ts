import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { until } from '../harness/until';
import { Witness } from '../harness/witness';
import { strings } from '../../src/strings';

/** The page is to tell the truth within two seconds; a busy machine takes longer. */
const SOON_MS = 6_000;

const { scenes, states } = strings;

function soon(what: string, tookMs: number): void {
  console.log(`${what}: ${tookMs} ms`);
  expect(tookMs, what).toBeLessThan(SOON_MS);
}

test('who is early is told when the teacher comes, and sees the first picture at once', async ({
  server,
  student,
  teach,
}) => {
  await student.page.locator('[data-scene=waiting]').waitFor();
  const witness = await Witness.of(student.page);
  teach(LESSONS.baseline);
  await server.untilLive();
  const live = Date.now();
  await student.plays();
  soon('from live to playing', (await witness.tookToSee('live', live - SOON_MS)) - SOON_MS);
  const said = await witness.said();
  expect(said[0]).toBe(states.waiting);
  expect(said.at(-1)).toBe(states.live);
  const known: string[] = [states.waiting, scenes.starting, states.connecting, states.live];
  expect(said.filter((text) => !known.includes(text))).toEqual([]);
  // The first before it knew that there is nothing; nobody is asked again and again.
  expect(await student.connections()).toBeLessThanOrEqual(3);
});

test('a lesson that ends is said to have ended, over its last picture, and goes on by itself', async ({
  student,
  teach,
}) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  const witness = await Witness.of(student.page);
  const connections = await student.connections();
  const ended = Date.now();
  await teacher.stop();
  soon('ended', await witness.tookToSee('ended', ended));
  // A machine that is busy hears of the end late.
  const said = (await witness.said()).filter((text) => text !== scenes.still);
  expect(said).toEqual([states.live, scenes.ended]);
  await picture(student.page);

  teach(LESSONS.baseline);
  await student.page.locator('[data-scene=live]').waitFor({ timeout: 20_000 });
  await student.plays();
  expect(await student.connections(), 'the same session').toBe(connections);
  expect(await witness.said()).not.toContain(states.waiting);
});

test('a phone that dies is said to be away until it is back', async ({ student, teach }) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  const witness = await Witness.of(student.page);
  const connections = await student.connections();
  const dead = Date.now();
  await teacher.kill();
  soon('away', await witness.tookToSee('teacher-away', dead));
  await picture(student.page);
  const back = Date.now();
  teach(LESSONS.baseline);
  await witness.tookToSee('live', back);
  await student.plays();
  expect(await student.connections(), 'the same session').toBe(connections);
  const known: string[] = [states.live, scenes.away, scenes.starting, states.connecting];
  expect((await witness.said()).filter((text) => !known.includes(text))).toEqual([]);
});

test('an app that sends nothing is told of at once, and whose fault it is soon after', async ({
  student,
  teach,
}) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  const witness = await Witness.of(student.page);
  const connections = await student.connections();
  const stopped = Date.now();
  teacher.signal('SIGSTOP');
  soon('nothing comes', await witness.tookToSee('trouble', stopped));
  soon('whose fault it is', await witness.tookToSee('teacher-away', stopped));
  const on = Date.now();
  teacher.signal('SIGCONT');
  soon('live again', await witness.tookToSee('live', on));
  const said = await witness.said();
  // A picture that the browser asks for once more may look like one that moves, for a moment.
  const known: string[] = [states.live, states.connecting, scenes.still, scenes.silent];
  expect(said.filter((text) => !known.includes(text))).toEqual([]);
  expect(said.indexOf(scenes.silent)).toBeGreaterThan(said.indexOf(scenes.still));
  expect([said[0], said.at(-1)]).toEqual([states.live, states.live]);
  expect(await student.connections(), 'the same session').toBe(connections);
});

test('a server that is gone is told of, and what it says when it is back', async ({
  server,
  student,
  teach,
}) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  const witness = await Witness.of(student.page);
  const dead = Date.now();
  const restarted = server.crashAndRestart();
  soon('the server is gone', await witness.tookToSee('trouble', dead));
  await restarted;
  await teacher.exited;
  // It knows nothing of the lesson that there was.
  await student.page.locator('[data-scene=waiting], [data-scene=ended]').waitFor({ timeout: 30_000 });
  teach(LESSONS.baseline);
  const began = Date.now();
  await witness.tookToSee('live', began);
  await student.plays();
});

test('the page of a class that is removed says so', async ({ server, student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  await server.operate('POST', '/api/v1/classes', { slug: 'other', name: 'Another class' });
  await student.page.goto(`http://${server.ready.http}/watch/other`);
  await student.page.locator('[data-scene=waiting]').waitFor();
  await student.page.locator('text=Another class >> visible=true').first().waitFor();
  const witness = await Witness.of(student.page);
  const removed = Date.now();
  await server.operate('DELETE', '/api/v1/classes/other');
  soon('the class is gone', await witness.tookToSee('denied', removed));
  expect(await student.announcement()).toBe(strings.reasons.unknown_class);
});

/** The last picture is there, and no black. */
async function picture(page: import('playwright-core').Page): Promise<void> {
  await until('the last picture', async () => {
    const brightest = await page.evaluate(() => {
      const kept = document.querySelector<HTMLCanvasElement>('canvas.last:not([hidden])');
      const shown = kept ?? document.querySelector('video');
      const canvas = document.createElement('canvas');
      canvas.width = 32;
      canvas.height = 18;
      const context = canvas.getContext('2d');
      if (shown === null || context === null) return 0;
      context.drawImage(shown, 0, 0, 32, 18);
      return Math.max(...context.getImageData(0, 0, 32, 18).data.filter((_, at) => at % 4 !== 3));
    });
    return brightest > 100 ? true : undefined;
  });
}
