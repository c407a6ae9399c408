import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import jsQR from 'jsqr';
import type { BrowserContext, Locator, Page } from 'playwright-core';
import { expect } from 'vitest';
import { strings } from '../../src/lib/teach/strings';
import { strings as common } from '../../src/strings';
import type { Child } from '../harness/child';
import { test as base } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import type { Server } from '../harness/server';
import { until } from '../harness/until';

/** What the page learns, it learns at once; a busy machine takes longer. */
const SOON_MS = 15_000;

const test = base.extend<{ teacher: Page }>({
  /** The teacher's page, opened by the link that the server shows. */
  teacher: async ({ browser, server }, use) => {
    const context = await open(
      browser.newContext({ viewport: { width: 1_280, height: 900 }, locale: 'en-GB' }),
    );
    const page = await context.newPage();
    await page.goto(teachUrl(server));
    await use(page);
    await context.close();
  },
});

const open = async (context: Promise<BrowserContext>): Promise<BrowserContext> => {
  const opened = await context;
  opened.setDefaultTimeout(SOON_MS);
  return opened;
};

function teachUrl({ ready }: Server, key: string | undefined = ready.key): string {
  const url = ready.watch_url.replace('/watch/', '/teach/');
  return key === '' ? url : `${url}#key=${key}`;
}

const stand = (page: Page, kind: string): Promise<void> => page.locator(`[data-stand=${kind}]`).waitFor();
const shown = (page: Page, testid: string): Promise<string> => page.getByTestId(testid).innerText();

/** Waits until a place of the page says this. */
async function says(page: Page, testid: string, expected: string | RegExp): Promise<void> {
  await until(`"${expected}" as ${testid}`, async () => {
    const text = (await shown(page, testid)).replaceAll('\u00a0', ' ');
    const isSaid = typeof expected === 'string' ? text === expected : expected.test(text);
    if (!isSaid) throw new Error(`the page says "${text}"`);
    return true;
  });
}

/** What a phone reads from the screen. */
async function scanned(code: Locator): Promise<string | undefined> {
  const picture = (await code.screenshot()).toString('base64');
  const { data, width, height } = await code.page().evaluate(async (picture) => {
    const image = new Image();
    image.src = `data:image/png;base64,${picture}`;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext('2d');
    context?.drawImage(image, 0, 0);
    const pixels = context?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
    // Millions of numbers in a list would take half a minute to come over.
    const data = Array.from(pixels, (level) => String.fromCharCode(level)).join('');
    return { data: btoa(data), width: canvas.width, height: canvas.height };
  }, picture);
  return jsQR(Uint8ClampedArray.from(Buffer.from(data, 'base64')), width, height)?.data;
}

/** The address that the code sets an app up with. */
async function larixUrl(page: Page): Promise<string> {
  if ((await page.getByTestId('larix-qr').count()) === 0) await page.getByTestId('show-qr').click();
  const link = await scanned(page.getByTestId('larix-qr'));
  expect(link).toMatch(/^larix:\/\/set\/v1\?conn\[\]\[url\]=/);
  const settings = new URLSearchParams(link?.split('?')[1]);
  expect(settings.get('enc[vid][format]')).toBe('avc');
  return settings.get('conn[][url]') ?? '';
}

/** Makes a class and returns its stream key, which is shown this once. */
async function makeClass(server: Server, slug: string, name: string): Promise<string> {
  const secret = readFileSync(join(server.dataDirectory, 'operator-secret'), 'utf8').trim();
  const answer = await fetch(`http://${server.ready.http}/api/v1/classes`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ slug, name }),
  });
  return ((await answer.json()) as { stream_key: string }).stream_key;
}

const leaves = (publisher: Child): Promise<string> =>
  until('the publisher to leave', () => (publisher.running ? undefined : publisher.exited), SOON_MS);

test('a phone that has scanned the code publishes, and the page says what arrives', async ({
  server,
  teacher,
  teach,
  student,
}) => {
  await stand(teacher, 'off');
  await says(teacher, 'stand', new RegExp(`^${strings.stands.off}`));
  expect(teacher.url(), 'the address bar').toBe(teachUrl(server, ''));
  expect(await teacher.locator('body').innerText(), 'nobody reads the key').not.toContain(server.ready.key);

  const ways = teacher.getByTestId('ways');
  expect(await scanned(ways), 'before it is asked for').toBe(server.ready.watch_url);
  const url = await larixUrl(teacher);
  expect(url).toBe(`${await teacher.getByTestId('server').inputValue()}/${server.ready.key}`);
  expect(url, 'a plain one in a private network').toBe(server.bareKeyUrl);

  const publisher = teach(LESSONS.baseline, url);
  await stand(teacher, 'live');
  await says(teacher, 'stand', /^LIVE/);
  await says(teacher, 'picture', '640 × 360');
  await says(teacher, 'sound', strings.yes);
  await says(teacher, 'bitrate', /^\d+(\.\d)? [kM]bit\/s$/);
  await says(teacher, 'health', new RegExp(strings.good));
  expect(await teacher.getByTestId('larix-qr').count(), 'the code is put away').toBe(0);
  await student.plays();
  await says(teacher, 'watching', strings.watching(1));
  await until('the preview', async () => {
    const preview = teacher.getByTestId('preview');
    const { frames, isMuted } = await preview.evaluate((video: HTMLVideoElement) => ({
      frames: video.getVideoPlaybackQuality().totalVideoFrames,
      isMuted: video.muted,
    }));
    expect(isMuted).toBe(true);
    return frames > 10 ? true : undefined;
  });

  await publisher.stop();
  await stand(teacher, 'ended');
  await says(teacher, 'stand', new RegExp(`^${strings.stands.ended}`));
});

test('what is wrong with the app is said in words', async ({ teacher, teach }) => {
  teach(LESSONS.bPyramid);
  await stand(teacher, 'live');
  const problem = teacher.locator('[data-health=bad] [data-code=b_frames_keyframes_only]');
  await problem.waitFor({ timeout: 20_000 });
  expect(await problem.innerText()).toMatch(/B-frames.*\bsince \d\d:\d\d:\d\d$/s);
  expect(await shown(teacher, 'health')).toContain(strings.problems(1));
});

test('a phone that dies is said to be lost, for as long as it is', async ({ teacher, teach }) => {
  const publisher = teach(LESSONS.baseline);
  await stand(teacher, 'live');
  await publisher.kill();
  await stand(teacher, 'away');
  expect(
    await teacher
      .getByText(/^\d:\d\d$/)
      .first()
      .innerText(),
  ).toMatch(/^0:\d\d$/);
  teach(LESSONS.baseline);
  await stand(teacher, 'live');
});

test('a new key cuts the app off, and is the only one', async ({ server, teacher, teach }) => {
  const publisher = teach(LESSONS.baseline, server.bareKeyUrl);
  await stand(teacher, 'live');
  await teacher.locator('summary').click();
  await teacher.getByTestId('new-key').click();
  await teacher.getByText(strings.newKeyHelp).waitFor();
  await teacher.getByTestId('new-key-no').click();
  expect(publisher.running, 'nothing has happened').toBe(true);

  await teacher.getByTestId('new-key').click();
  await teacher.getByTestId('new-key-yes').click();
  await teacher.getByText(strings.newKeyDone).waitFor();
  await leaves(publisher);
  const key = await teacher.getByTestId('key').inputValue();
  expect(await teacher.getByTestId('key').getAttribute('type'), 'it is shown').toBe('text');
  expect(key).not.toBe(server.ready.key);
  await leaves(teach(LESSONS.baseline, server.bareKeyUrl));

  const url = await larixUrl(teacher);
  expect(url).toBe(`${server.ready.rtmp_url}/${key}`);
  teach(LESSONS.baseline, url);
  await stand(teacher, 'live');
  // The tab has kept it.
  await teacher.reload();
  await stand(teacher, 'live');
});

test('a wrong key is refused where it is entered, and the right one is remembered', async ({
  browser,
  server,
}) => {
  const context = await open(browser.newContext({ locale: 'en-GB' }));
  const page = await context.newPage();
  await page.goto(teachUrl(server, ''));
  const field = page.getByLabel(strings.key.label, { exact: true });
  await field.waitFor();
  expect(await field.getAttribute('aria-invalid'), 'nobody has tried yet').toBeNull();
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await page.getByText(strings.key.errors.wrong).waitFor();
  expect(await field.getAttribute('aria-invalid')).toBe('true');
  expect(await field.getAttribute('aria-describedby')).toBe('key-error');
  await until('the focus', () =>
    field.evaluate((element) => element === document.activeElement || undefined),
  );

  await field.fill(server.ready.key);
  await page.getByLabel(strings.key.remember).check();
  await page.getByRole('button', { name: strings.key.open }).click();
  await stand(page, 'off');
  const another = await context.newPage();
  await another.goto(teachUrl(server, ''));
  await stand(another, 'off');
  await another.getByTestId('forget').click();
  await another.reload();
  await another.getByLabel(strings.key.label, { exact: true }).waitFor();
  // A link with a wrong key is no better.
  await another.goto(teachUrl(server, 'wrong'));
  await another.getByText(strings.key.errors.wrong).waitFor();
  expect(another.url()).toBe(teachUrl(server, ''));
  await context.close();
});

test('a server that is gone is told of, and nothing old is said to be so', async ({
  server,
  teacher,
  teach,
}) => {
  teach(LESSONS.baseline);
  await stand(teacher, 'live');
  await says(teacher, 'picture', '640 × 360');
  await server.process.kill();
  await stand(teacher, 'unheard');
  const heard = /\d\d:\d\d:\d\d/.exec(await teacher.locator('main').innerText())?.[0] ?? '';
  expect(await shown(teacher, 'stand')).toContain(strings.details.unheard(heard));
  expect(await teacher.locator('[data-health]').getAttribute('data-health')).toBe('unknown');
  await teacher.getByText(strings.arrivedThen(heard)).waitFor();
  expect(await teacher.getByTestId('watching').count()).toBe(0);
  await server.crashAndRestart();
  await teacher
    .locator('[data-stand=off], [data-stand=ended], [data-stand=gone]')
    .waitFor({ timeout: 30_000 });
});

test('the page of a class that is removed says so', async ({ browser, server }) => {
  const key = await makeClass(server, 'other', 'Another class');
  const context = await open(browser.newContext({ locale: 'en-GB' }));
  const page = await context.newPage();
  await page.goto(`http://${server.ready.http}/teach/other#key=${key}`);
  await stand(page, 'off');
  await page.getByRole('heading', { name: 'Another class' }).waitFor();
  expect(await page.title()).toBe(`Another class · ${strings.page} · ${common.title}`);
  await server.operate('DELETE', '/api/v1/classes/other');
  await stand(page, 'removed');
  // It stays at that, though its key is void.
  await page.waitForTimeout(2_000);
  await stand(page, 'removed');
  await context.close();
});

test('the poster is one page with the link and nothing else', async ({ server, teacher }) => {
  await stand(teacher, 'off');
  await teacher.emulateMedia({ media: 'print' });
  expect(await teacher.locator('main').isVisible()).toBe(false);
  const poster = teacher.locator('.poster');
  expect(await scanned(poster.locator('svg'))).toBe(server.ready.watch_url);
  expect(await poster.innerText()).toContain(server.ready.watch_url);
  const pages = (await teacher.pdf({ format: 'A4' })).toString('latin1').match(/\/Type\s*\/Page\b/g);
  expect(pages).toHaveLength(1);
});
