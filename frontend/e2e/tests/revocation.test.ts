import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Request } from 'playwright-core';
import { expect, onTestFinished } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS, publish } from '../harness/publisher';
import { Server } from '../harness/server';
import { Student } from '../harness/student';
import { until } from '../harness/until';

/** Within this time whoever has a revoked token is cut off. */
const CUT_OFF_MS = 30_000;

// What an operator does when the PIN of a class has got about: another PIN, and whoever is in by the old one is out.
test('who came in with a PIN that is no longer the right one is told so when the class is revoked', async ({
  browser,
  keep,
}) => {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  keep(publish(LESSONS.baseline, server.publishUrl));
  const student = await Student.open(browser, server);
  onTestFinished(() => student.dispose());
  const { page } = student;
  const [field, enter] = [page.getByLabel('PIN of the class'), page.getByRole('button', { name: 'Enter' })];
  await student.says('pin_needed');
  await field.fill(server.pin);
  await enter.click();
  await student.plays();

  await operate(server, 'PUT', `/api/v1/classes/${server.ready.class}/pin`, { pin: 'orange-77' });
  const asked = performance.now();
  await operate(server, 'POST', '/api/v1/revocations', { class: server.ready.class });
  await student.says('pin_wrong', CUT_OFF_MS);
  console.log(`the page says so ${Math.round(performance.now() - asked)} ms after the class was revoked`);
  expect(await student.state()).toBe('denied');
  expect(await student.announcement()).toContain('The PIN or the name of the class is wrong');
  const offers = () => student.requests.filter(isOffer).length;
  const before = offers();

  await field.fill('orange-77');
  await enter.click();
  await student.plays();
  expect(offers(), 'one more, with the new token').toBe(before + 1);
  expect(student.loads).toBe(1);
});

// Who may have a token has another one before anybody asks him anything.
test('a page whose token is revoked goes on with another where it is given one', async ({
  server,
  teach,
  student,
}) => {
  teach(LESSONS.baseline);
  await student.plays();
  const before = await student.connections();
  await operate(server, 'POST', '/api/v1/revocations', { class: server.ready.class });
  await until('another connection', async () => ((await student.connections()) > before ? true : undefined));
  await student.plays(CUT_OFF_MS);
  const answers = await Promise.all(student.requests.filter(isOffer).map((offer) => offer.response()));
  const refused = answers.filter((answer) => answer?.status() === 401).length;
  expect(refused, 'what was refused is not tried again').toBeLessThanOrEqual(1);
});

function isOffer(request: Request): boolean {
  return request.method() === 'POST' && request.url().endsWith('/whep');
}

async function operate(server: Server, method: string, path: string, body: unknown): Promise<void> {
  const secret = readFileSync(join(server.dataDirectory, 'operator-secret'), 'utf8').trim();
  const response = await fetch(`http://${server.ready.http}${path}`, {
    method,
    headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(response.ok, await response.text()).toBe(true);
}
