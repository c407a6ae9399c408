import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Child } from '../harness/child';
import { ageMs, readStamp, STRIP_CELLS, STRIP_HEIGHT } from '../harness/gray';
import { clockLesson, ffmpegArguments } from '../harness/publisher';

/** Luma of a strip that says `ms`, as an encoder would blur it. */
function painted(ms: number): number[] {
  const wrapped = BigInt(ms) % 2n ** 40n;
  const gray = wrapped ^ (wrapped >> 1n);
  const stamp = Array.from({ length: 40 }, (_, i) => Number((gray >> BigInt(39 - i)) & 1n));
  return [1, 0, 1, 0, ...stamp, 0, 1, 0, 1].map((bit) => (bit === 1 ? 214 : 31));
}

test('a stamp is read back, also across the wrap of its forty bits', () => {
  const now = 1_800_000_000_123;
  expect(ageMs(readStamp(painted(now)) ?? Number.NaN, now + 80)).toBe(80);
  const wrap = 2 ** 40 * 2;
  expect(ageMs(readStamp(painted(wrap - 1)) ?? Number.NaN, wrap + 79)).toBe(80);
});

test('a picture without the strip has no stamp', () => {
  expect(readStamp(painted(1).map(() => 200))).toBeUndefined();
  expect(readStamp(painted(1).slice(1))).toBeUndefined();
});

test('the stamps that ffmpeg burns in survive its encoder and tell the time of encoding', async () => {
  const home = mkdtempSync(join(tmpdir(), 'lectern-gray-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const [flv, cells] = [join(home, 'clock.flv'), join(home, 'cells.gray')];

  const began = Date.now();
  const encoder = ffmpegArguments(clockLesson(2), flv);
  await new Child('ffmpeg', [...encoder.slice(0, -1), '-t', '1.5', flv]).exited;
  const ended = Date.now();
  const sample = `format=gray,crop=iw:1:0:${STRIP_HEIGHT / 2},scale=${STRIP_CELLS}:1:flags=neighbor`;
  await new Child('ffmpeg', [
    '-nostdin',
    '-i',
    flv,
    '-vf',
    sample,
    '-pix_fmt',
    'gray',
    '-f',
    'rawvideo',
    cells,
  ]).exited;

  const frames = readFileSync(cells);
  const stamps = Array.from({ length: frames.length / STRIP_CELLS }, (_, i) =>
    readStamp(frames.subarray(i * STRIP_CELLS, (i + 1) * STRIP_CELLS)),
  );
  expect(stamps.length).toBeGreaterThanOrEqual(40);
  const ages = stamps.map((stamp) => ageMs(stamp ?? Number.NaN, ended));
  expect(Math.min(...ages)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...ages)).toBeLessThanOrEqual(ended - began);
  // Each frame carries a time of its own, no earlier than the frame before; together they span the real time they took.
  const steps = ages.slice(1).map((age, i) => (ages[i] ?? Number.NaN) - age);
  expect(Math.min(...steps)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...ages) - Math.min(...ages)).toBeGreaterThan(1_000);
});
