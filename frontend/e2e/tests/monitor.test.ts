import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import type { Browser } from 'playwright-core';
import { test } from '../harness/lesson';
import { Monitor } from '../harness/monitor';
import { LESSONS, publish } from '../harness/publisher';
import { RESULTS } from '../harness/results';
import { Server, type StreamStatus } from '../harness/server';
import { until } from '../harness/until';
import { strings } from '../../src/lib/monitor/strings';

/** The wall is to tell the truth within two seconds; a busy machine takes longer. */
const SOON_MS = 6_000;

function soon(what: string, tookMs: number): void {
  console.log(`${what}: ${tookMs} ms`);
  expect(tookMs, what).toBeLessThan(SOON_MS);
}

async function guarded(): Promise<Server> {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  return server;
}

async function open(browser: Browser, server: Server, secret?: string): Promise<Monitor> {
  const monitor = await Monitor.open(browser, server, secret);
  onTestFinished(() => monitor.dispose());
  return monitor;
}

/** When the server first says that a class is live. */
async function live(server: Server, slug: string): Promise<number> {
  await until(`${slug} to be live`, async () => {
    const stream = (await server.operate('GET', `/api/v1/streams/${slug}`)) as StreamStatus;
    return stream.state === 'active' ? stream : undefined;
  });
  return Date.now();
}

test('the wall shows every class, and what becomes of its lesson', async ({ browser, keep }) => {
  const server = await guarded();
  const slugs = ['art', 'biology', 'chemistry', 'drama'] as const;
  const urls = new Map<string, string>();
  for (const slug of slugs) urls.set(slug, await server.addClass(slug, `Class of ${slug}`));
  const urlOf = (slug: string): string => urls.get(slug) ?? '';
  const monitor = await open(browser, server, server.monitorSecret);
  const { page } = monitor;
  for (const slug of slugs) await monitor.shows(slug, 'offline');
  await page
    .getByTestId('summary')
    .getByText(strings.summary(0, 5, 0, 0))
    .waitFor();
  expect(page.url(), 'the secret does not stay in the address').not.toContain('secret');

  const teacher = keep(publish(LESSONS.baseline, urlOf('biology')));
  const [began, seen] = await Promise.all([live(server, 'biology'), monitor.shows('biology', 'live')]);
  soon('from live to LIVE', Math.max(0, seen - began));
  soon('from live to the picture', (await monitor.showsPicture('biology')) - began);
  await until('a picture of many colours', async () =>
    (await monitor.colours('biology')) > 50 ? true : undefined,
  );
  expect(await monitor.order(), 'what is live comes first').toEqual([
    'biology',
    'art',
    'chemistry',
    'drama',
    server.ready.class,
  ]);
  expect(await page.title()).toContain(strings.summary(1, 5, 0, 0));
  await page.waitForTimeout(11_000);
  expect(await monitor.colours('biology'), 'there is a picture after two more').toBeGreaterThan(50);

  keep(publish(LESSONS.bPyramid, urlOf('drama')));
  await monitor.shows('drama', 'problem');
  expect((await monitor.order())[0]).toBe('drama');
  expect(await monitor.tile('drama').textContent()).toContain('B-frames');
  await until('the news', async () =>
    (await page.getByTestId('news').textContent())?.includes('Class of drama') ? true : undefined,
  );
  await page.getByTestId('filter-problems').click();
  await until('the problems alone', async () => ((await monitor.order()).length === 1 ? true : undefined));
  await page.getByTestId('view-table').click();
  const rows = page.locator('table tbody tr');
  expect(await rows.count()).toBe(1);
  expect(await rows.textContent()).toContain('PROBLEM');
  await page.getByTestId('view-wall').click();
  await page.getByTestId('filter-all').click();

  // The live view.
  await monitor.tile('biology').locator('.open').focus();
  await page.keyboard.press('Enter');
  const dialog = page.locator('dialog');
  await page.locator('dialog[data-class=biology][data-view=live]').waitFor({ timeout: 30_000 });
  const frames = (): Promise<number> =>
    dialog
      .locator('.media > video')
      .evaluate((video: HTMLVideoElement) => video.getVideoPlaybackQuality().totalVideoFrames);
  const before = await frames();
  await until('frames of the live view', async () => ((await frames()) > before + 10 ? true : undefined));
  expect(
    await dialog.locator('.media > video').evaluate((video: HTMLVideoElement) => video.muted),
    'nobody is startled',
  ).toBe(true);
  await page.screenshot({ path: join(RESULTS, 'monitor-live.png') });
  await page.keyboard.press('ArrowRight');
  await page.locator('dialog[data-class=art]').waitFor();
  await page.keyboard.press('ArrowLeft');
  await page.locator('dialog[data-class=biology]').waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  expect(
    await page.evaluate(() => document.activeElement?.closest('[data-class]')?.getAttribute('data-class')),
    'the focus is back',
  ).toBe('biology');
  await page.keyboard.press('p');
  await until('the pinned lesson to play', () =>
    monitor
      .tile('biology')
      .locator('video.live.on')
      .evaluateAll(([video]) =>
        video instanceof HTMLVideoElement && video.currentTime > 0.5 ? true : undefined,
      ),
  );
  await page.keyboard.press('p');
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());

  const stopped = Date.now();
  await teacher.stop();
  soon('from stop to ENDED', (await monitor.shows('biology', 'ended')) - stopped);
  await monitor.showsPicture('biology');
  expect(await monitor.tile('biology').textContent(), 'it says from when the picture is').toContain(
    'Picture from',
  );

  const other = keep(publish(LESSONS.baseline, urlOf('art')));
  await monitor.shows('art', 'live');
  await monitor.showsPicture('art');
  const killed = Date.now();
  await other.kill();
  soon('from kill to RECONNECTING', (await monitor.shows('art', 'reconnecting')) - killed);
});

test('nine lessons play at once, and a tenth is refused in words', async ({ browser }) => {
  const server = await guarded();
  for (let at = 1; at <= 10; at += 1) await server.addClass(`c${at}`, `Class ${at}`);
  const monitor = await open(browser, server, server.monitorSecret);
  const { page } = monitor;
  await until('all tiles', async () => ((await monitor.tiles.count()) === 11 ? true : undefined));
  await monitor.tile('c1').locator('.open').focus();
  const focused = (): Promise<string | null | undefined> =>
    page.evaluate(() => document.activeElement?.closest('[data-class]')?.getAttribute('data-class'));
  for (let at = 1; at <= 10; at += 1) {
    expect(await focused()).toBe(`c${at}`);
    expect(await page.getByTestId('notice').count()).toBe(0);
    await page.keyboard.press('p');
    await page.keyboard.press('ArrowRight');
  }
  await page.getByTestId('notice').getByText(strings.pinsFull(9)).waitFor();
  expect(await page.locator('.tile.pinned').count()).toBe(9);
  await page.keyboard.press('Home');
  expect(await focused()).toBe('c1');
  await page.keyboard.press('End');
  expect(await focused()).toBe(server.ready.class);
  await server.operate('DELETE', '/api/v1/classes/c3');
  await monitor.shows('c3', 'removed');
  expect(await monitor.tiles.count(), 'nothing jumps while somebody is here').toBe(11);
  await page.getByRole('searchbox').focus();
  await until('the tile to go', async () => ((await monitor.tiles.count()) === 10 ? true : undefined));
});

test('a guarded server asks for the secret, and takes the right one alone', async ({ browser }) => {
  const server = await guarded();
  const { page } = await open(browser, server);
  const field = page.getByLabel(strings.secret.label);
  await field.waitFor();
  expect(await page.locator('[aria-invalid]').count(), 'nothing is wrong yet').toBe(0);
  await field.fill('a guess');
  await page.keyboard.press('Enter');
  await page.getByText(strings.secret.wrong).waitFor();
  await field.fill('another-guess');
  await page.keyboard.press('Enter');
  await page.getByText(strings.secret.wrong).waitFor();
  await field.fill(server.monitorSecret);
  await page.keyboard.press('Enter');
  await page.locator('.tile').waitFor();
  await page.reload();
  await page.locator('.tile').waitFor();
  const wrong = await open(browser, server, 'wrong');
  await wrong.page.getByText(strings.secret.wrong).waitFor();
  expect(await wrong.tiles.count()).toBe(0);
});

test('an open server asks for nothing, and one that is gone is not believed', async ({
  browser,
  server,
  teach,
}) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  const monitor = await open(browser, server);
  const name = server.ready.class;
  await monitor.shows(name, 'live');
  await monitor.showsPicture(name);
  const gone = Date.now();
  await server.process.kill();
  soon('from the end of the server to the banner', (await monitor.shows(name, 'old')) - gone);
  await monitor.page.getByTestId('banner').waitFor();
  expect(await monitor.page.locator('body').innerText()).not.toMatch(/\bLIVE\b/);
  await server.crashAndRestart();
  await until('the wall to be up to date', async () =>
    (await monitor.page.locator('main[data-fresh=true]').count()) === 1 ? true : undefined,
  );
});
