import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { RESULTS } from '../harness/results';
import { Student } from '../harness/student';
import { until } from '../harness/until';

test('a student who is early waits in words, and the lesson starts by itself', async ({ student, teach }) => {
  await student.reaches('waiting');
  await student.page.getByText('Waiting for the teacher').first().waitFor();
  expect(await student.announcement()).toContain('Waiting for the teacher');

  teach(LESSONS.baseline);
  await student.plays();
  expect(await student.announcement()).toBe('Live');
  expect(await student.page.getByTestId('live-badge').isVisible()).toBe(true);
  expect(student.loads).toBe(1);
});

test('the page of a lesson that has ended does not go on calling it live', async ({ student, teach }) => {
  const teacher = teach(LESSONS.baseline);
  await student.plays();
  await teacher.stop();
  const ended = performance.now();
  await student.page.getByTestId('live-badge').waitFor({ state: 'hidden', timeout: 14_000 });
  console.log(`not live ${Math.round(performance.now() - ended)} ms after the end`);
});

test('the lesson begins with sound where the browser allows it', async ({ student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  expect(await student.isMuted()).toBe(false);
  expect(await student.page.getByTestId('unmute').count()).toBe(0);
  await until('sound', async () => ((await student.playback()).audioEnergy > 0 ? true : undefined));
});

test('elsewhere it begins muted and a tap brings the sound', async ({ browser, server, teach }) => {
  const context = await browser.newContext();
  onTestFinished(() => context.close());
  // Playwright looks at a page with a user's hand, so that Chromium lets it begin with sound. This one waits for a finger.
  await context.addInitScript(() => {
    let isTouched = false;
    addEventListener('pointerdown', () => (isTouched = true), true);
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function (this: HTMLMediaElement) {
      const isAllowed = this.muted || isTouched;
      return isAllowed ? play.call(this) : Promise.reject(new DOMException('', 'NotAllowedError'));
    };
  });
  const student = await Student.within(context, server.ready.watch_url);
  teach(LESSONS.baseline);
  await student.plays();
  expect(await student.isMuted()).toBe(true);

  const unmute = student.page.getByTestId('unmute');
  await unmute.click();
  expect(await student.isMuted()).toBe(false);
  expect(await unmute.isVisible()).toBe(false);
  const { audioEnergy } = await student.playback();
  await until('sound', async () => ((await student.playback()).audioEnergy > audioEnergy ? true : undefined));
});

test('the keyboard mutes, pauses, fills the screen and shows statistics', async ({ student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  const { page, video } = student;

  await page.keyboard.press('m');
  expect(await student.isMuted()).toBe(true);
  await page.keyboard.press('M');
  expect(await student.isMuted()).toBe(false);

  const isPaused = () => video.evaluate((element: HTMLVideoElement) => element.paused);
  await page.keyboard.press(' ');
  expect(await isPaused()).toBe(true);
  await page.keyboard.press(' ');
  await until('the video to go on', async () => ((await isPaused()) ? undefined : true));

  await page.keyboard.press('f');
  await page.waitForFunction(() => document.fullscreenElement !== null);
  await page.keyboard.press('f');
  await page.waitForFunction(() => document.fullscreenElement === null);

  await page.keyboard.press('i');
  await page.getByText('640×360', { exact: false }).waitFor();
  await page.getByText(/AEAD_AES_(128|256)_GCM/).waitFor();
  await page.screenshot({ path: join(RESULTS, 'watch-page.png') });
  await page.keyboard.press('i');
  await page.getByText('640×360', { exact: false }).waitFor({ state: 'detached' });
});

test('the lowest delay is a new session that asks the server for it', async ({ student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  // One for every time the page asked before the teacher was there.
  const before = await student.connections();
  const asked = student.page.waitForRequest(
    (request) => request.method() === 'POST' && request.url().includes('latency=low'),
  );
  await student.page.getByTestId('settings').click();
  await student.page.getByTestId('latency').selectOption('low');
  await asked;
  await until('a new session', async () => ((await student.connections()) > before ? true : undefined));
  await student.plays();
  expect(await student.connections(), 'one session is enough').toBe(before + 1);
});

test('whoever closes the page is gone from the class at once', async ({ server, student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  const viewers = (expected: number, deadlineMs: number) =>
    until(
      `${expected} viewers`,
      async () => ((await server.stream())?.viewers === expected ? true : undefined),
      deadlineMs,
    );
  await viewers(1, 5_000);

  // Without a word of farewell the server would only notice when ICE consent runs out (RFC 7675: 30 s).
  await student.page.goto(`http://${server.ready.http}/`);
  await viewers(0, 5_000);
  // Chromium's close_notify can do that too, but not every browser sends one. The DELETE is ours.
  expect(await student.farewell()).toContain(`http://${server.ready.whep}/`);
});

test('a class that does not exist is refused in words', async ({ server, student }) => {
  // The second is a link that was cut off.
  for (const name of ['no-such-class', 'caf%C3']) {
    await student.page.goto(`http://${server.ready.http}/watch/${name}`);
    await student.says('unknown_class');
    expect(await student.state()).toBe('denied');
    expect(await student.announcement()).toContain('There is no class with this name');
  }
});

test('the page asks nobody but its own server', async ({ server, student, teach }) => {
  teach(LESSONS.baseline);
  await student.plays();
  const ours = [server.ready.http, server.ready.whep];
  const strangers = student.requests
    .map((request) => new URL(request.url()))
    .filter(({ protocol, host }) => protocol.startsWith('http') && !ours.includes(host));
  expect(strangers).toEqual([]);
});

test('the page sends one request for a session, and one more when its network changes', async ({
  server,
  student,
  teach,
}) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await student.plays();
  const patches = () => student.requests.filter((request) => request.method() === 'PATCH');
  expect(patches(), 'nobody needs our candidates').toEqual([]);
  const connections = await student.connections();
  const ufrag = () =>
    student.page.evaluate(
      () => window.e2eConnections.at(-1)?.remoteDescription?.sdp.match(/ice-ufrag:\S+/)?.[0],
    );
  const before = await ufrag();

  // What Chromium says some seconds after a network has gone. The other one is there already: media goes on.
  await student.page.evaluate(() => {
    const connection = window.e2eConnections.at(-1);
    if (connection === undefined) throw new Error('there is no connection');
    Object.defineProperty(connection, 'connectionState', { value: 'disconnected', configurable: true });
    connection.dispatchEvent(new Event('connectionstatechange'));
  });
  await until('other credentials of the server', async () => ((await ufrag()) === before ? undefined : true));
  const [patch, ...more] = patches();
  expect(more).toEqual([]);
  expect(patch?.postData()).toMatch(/^a=ice-ufrag:\S+\r\na=ice-pwd:\S+\r\n$/);
  expect(patch?.headers()).toMatchObject({
    'if-match': '*',
    'content-type': 'application/trickle-ice-sdpfrag',
  });
  expect((await patch?.response())?.status()).toBe(200);
  await student.plays();
  expect(await student.connections(), 'the session is the same').toBe(connections);
});
