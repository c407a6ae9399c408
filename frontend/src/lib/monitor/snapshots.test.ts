import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Snapshots } from './snapshots';

/** What was asked, with when. */
let asked: { url: string; headers: Record<string, string>; atMs: number }[];
let atOnce: number;
let mostAtOnce: number;
let answer: (url: string, headers: Record<string, string>) => number;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
  asked = [];
  atOnce = mostAtOnce = 0;
  answer = () => 200;
  vi.stubGlobal('fetch', async (url: string, { headers }: { headers: Record<string, string> }) => {
    asked.push({ url, headers, atMs: performance.now() });
    mostAtOnce = Math.max(mostAtOnce, ++atOnce);
    await new Promise((resolve) => setTimeout(resolve, 100));
    atOnce -= 1;
    const status = answer(url, headers);
    const response = new Response(status === 304 ? null : 'picture', { status, headers: { ETag: '"1"' } });
    const name = /(c\d+)/.exec(url)?.[1] ?? '';
    return Object.defineProperty(response, 'url', { value: `http://node/${name}?jwt=t` });
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const wanted = (count: number): Snapshots => {
  const snapshots = new Snapshots(() => 'secret');
  for (let at = 0; at < count; at += 1) snapshots.want(`c${at}`, true);
  return snapshots;
};

/** The most requests within any second. */
const densest = (): number =>
  Math.max(
    ...asked.map(
      ({ atMs }) => asked.filter((other) => other.atMs >= atMs && other.atMs < atMs + 1000).length,
    ),
  );

test('64 lessons are asked every 8 s, a few at a time and never many in a second', async () => {
  wanted(64);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(new Set(asked.map(({ url }) => /c\d+/.exec(url)?.[0])).size).toBe(64);
  expect(mostAtOnce).toBeLessThanOrEqual(4);
  expect(densest()).toBeLessThan(60);
  await vi.advanceTimersByTimeAsync(10_000);
  asked = [];
  await vi.advanceTimersByTimeAsync(80_000);
  expect(asked.length / 64).toBeGreaterThan(9);
  expect(asked.length / 64).toBeLessThan(11);
  expect(densest()).toBeLessThan(25);
});

test('a node is asked with what is known, without the secret, and the coordinator again when it has nothing', async () => {
  const snapshots = wanted(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(asked[0]).toMatchObject({
    url: '/live/c0/snapshot.mp4',
    headers: { Authorization: 'Bearer secret' },
  });
  answer = () => 304;
  await vi.advanceTimersByTimeAsync(9_000);
  expect(asked[1]).toMatchObject({ url: 'http://node/c0?jwt=t', headers: { 'If-None-Match': '"1"' } });
  expect(asked[1]?.headers).not.toHaveProperty('Authorization');
  expect(snapshots.shots.get('c0')?.atMs, 'nothing new came').toBeLessThan(Date.now() - 5_000);
  answer = () => 404;
  await vi.advanceTimersByTimeAsync(60_000);
  const lost = asked.slice(-4).map(({ atMs }) => atMs);
  expect(asked.at(-1)?.url).toBe('/live/c0/snapshot.mp4');
  expect((lost[3] ?? 0) - (lost[2] ?? 0), 'pauses grow').toBeGreaterThan((lost[1] ?? 0) - (lost[0] ?? 0));
});

test('nothing is asked for who is not seen, and at once again when he is', async () => {
  const snapshots = wanted(3);
  await vi.advanceTimersByTimeAsync(1_000);
  snapshots.pause(true);
  asked = [];
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toEqual([]);
  snapshots.want('c1', false);
  snapshots.pause(false);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked.map(({ url }) => url).sort()).toEqual(['http://node/c0?jwt=t', 'http://node/c2?jwt=t']);
});
