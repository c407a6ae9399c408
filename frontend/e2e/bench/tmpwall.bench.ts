import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Browser, Page } from 'playwright-core';
import { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { Monitor } from '../harness/monitor';
import { report, RESULTS } from '../harness/results';
import { loadBinary, Server } from '../harness/server';
import { until } from '../harness/until';
import { onTestFinished } from 'vitest';

/** `CLASSES=64 SIZE=1280x720 RATE=1500k make bench-browser` for larger ones. */
const CLASSES = Number(process.env['CLASSES'] ?? 26);
const SIZE = process.env['SIZE'] ?? '320x180';
const RATE = process.env['RATE'] ?? '100k';
const WATCHED_S = 30;
/** A busy machine sends late, which is a problem. */
const ON = '.tile[data-kind=live], .tile[data-kind=problem]';
/** Ticks of a processor's time in a second (proc_pid_stat(5)). */
const TICKS = 100;

test('a wall of classes that are all live', { timeout: 300_000 }, async ({ browser, keep }) => {
  const server = await Server.start({ isGuarded: true });
  onTestFinished(() => server.dispose());
  const keys: string[] = [];
  for (let at = 1; at <= CLASSES; at += 1) {
    const url = await server.addClass(`c${at}`, `Class ${at}`);
    keys.push(new URL(url).searchParams.get('k') ?? '');
  }
  keep(await publishers(server, keys));
  const monitor = await Monitor.open(browser, server, server.monitorSecret);
  onTestFinished(() => monitor.dispose());
  await monitor.page.setViewportSize({ width: 1_920, height: 1_080 });
  await until(
    'all of them to be live',
    async () => ((await monitor.page.locator(ON).count()) === CLASSES ? true : undefined),
    90_000,
  );
  await pause(10_000);

  const counted = await count(monitor.page);
  const before = await times(browser);
  const began = performance.now();
  await pause(WATCHED_S * 1_000);
  const seconds = (performance.now() - began) / 1_000;
  const after = await times(browser);
  const shares = after.map(({ id, type, ticks }) => {
    const earlier = before.find((process) => process.id === id)?.ticks ?? 0;
    return { type, percent: Math.round(((ticks - earlier) / TICKS / seconds) * 1_000) / 10 };
  });
  const kilobits = (bytes: number): number => Math.round((bytes * 8) / seconds / 1_000);
  const of = (wanted: string): number =>
    Math.max(0, ...shares.filter(({ type }) => type === wanted).map(({ percent }) => percent));
  const rows = {
    'pictures, kbit/s': { figure: kilobits(counted.pictures) },
    'events, kbit/s': { figure: kilobits(counted.events) },
    'everything else, kbit/s': { figure: kilobits(counted.others) },
    'pictures a second': { figure: Math.round((counted.requests / seconds) * 10) / 10 },
    'preflights a second': { figure: Math.round((counted.preflights / seconds) * 10) / 10 },
    'bytes of a picture': { figure: Math.round(counted.pictures / Math.max(1, counted.requests)) },
    'renderer, % of a core': { figure: of('renderer') },
    'GPU process, % of a core': { figure: of('GPU') },
    'network and others, % of a core': { figure: of('utility') },
  };
  console.log(JSON.stringify(await monitor.page.evaluate(() => { const all = performance.getEntriesByType('resource').filter((e) => e.name.includes('snapshot')); const d = all.map((e) => e.duration).sort((a, b) => a - b); const per: Record<string, number[]> = {}; for (const e of all) (per[/(c\d+)\/snap/.exec(e.name)?.[1] ?? ''] ??= []).push(Math.round(e.startTime/100)/10); return { n: d.length, p50: d[d.length >> 1], p95: d[Math.floor(d.length * 0.95)], max: d.at(-1), now: performance.now(), c1: per['c1'], c9: per['c9'], c20: per['c20'] }; })));
  await monitor.page.screenshot({ path: join(RESULTS, 'wall-bench.png') });
  report(`wall-${CLASSES}-${SIZE}`, rows, { counted, shares });
});

/** As many phones in one program, each sending the same short lesson again and again: encoders would take all that there is. */
async function publishers(server: Server, keys: readonly string[]): Promise<Child> {
  const folder = mkdtempSync(join(tmpdir(), 'lectern-wall-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [file, list] = [join(folder, 'lesson.flv'), join(folder, 'keys')];
  writeFileSync(list, keys.join('\n'));
  const encoder = new Child('ffmpeg', [
    ...['-hide_banner', '-nostdin', '-loglevel', 'warning', '-y', '-f', 'lavfi'],
    ...['-i', `testsrc2=size=${SIZE}:rate=10`, '-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=44100'],
    ...[
      '-t',
      '20',
      '-c:v',
      'libx264',
      '-preset',
      'veryfast',
      '-tune',
      'zerolatency',
      '-profile:v',
      'baseline',
    ],
    ...['-pix_fmt', 'yuv420p', '-g', '20', '-b:v', RATE, '-maxrate', RATE, '-bufsize', RATE],
    ...['-c:a', 'aac', '-b:a', '32k', '-ac', '1', file],
  ]);
  await encoder.exited;
  const target = `${server.ready.rtmp_url}/{key}`;
  return new Child(loadBinary(), [
    ...['publish', '--file', file, '--rtmp', target],
    ...['--keys', list, '--count', String(keys.length)],
  ]);
}

/** Counts what the page receives from here on. */
async function count(
  page: Page,
): Promise<Record<'pictures' | 'events' | 'others' | 'requests' | 'preflights', number>> {
  const counted = { pictures: 0, events: 0, others: 0, requests: 0, preflights: 0 };
  const urls = new Map<string, string>();
  const preflights = new Set<string>();
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  session.on('Network.requestWillBeSent', ({ requestId, request }) => {
    urls.set(requestId, request.url);
    if (request.method === 'OPTIONS') preflights.add(requestId);
  });
  session.on('Network.dataReceived', ({ requestId, dataLength }) => {
    // The stream of events began before.
    if (!urls.has(requestId)) counted.events += dataLength;
  });
  session.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    const url = urls.get(requestId);
    if (preflights.has(requestId)) {
      counted.others += encodedDataLength;
      counted.preflights += 1;
    } else if (url?.includes('snapshot.mp4')) {
      counted.pictures += encodedDataLength;
      counted.requests += 1;
    } else if (url !== undefined && !url.startsWith('blob:')) {
      counted.others += encodedDataLength;
    }
  });
  return counted;
}

/** The time that the browser's processes have had. */
async function times(browser: Browser): Promise<{ id: number; type: string; ticks: number }[]> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  return processInfo.map(({ id, type }) => {
    const fields = readFileSync(`/proc/${id}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    return { id, type, ticks: Number(fields[11]) + Number(fields[12]) };
  });
}
