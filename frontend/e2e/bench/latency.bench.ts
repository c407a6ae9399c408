import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { clockLesson } from '../harness/publisher';
import { report, spread } from '../harness/results';
import { between, concealedShare } from '../harness/stats';
import { until } from '../harness/until';

/** How long the clock is read, after the first seconds in which the browser sizes its buffer. */
const MEASURED_S = 60;
const SETTLING_MS = 5_000;

test('glass to glass, with sound, for a minute', async ({ server, teach, probe }) => {
  teach(clockLesson(2));
  await server.untilLive();
  await probe.join(server, { readClock: true });
  await until('the browser to settle', async () => {
    const last = (await probe.readings()).at(-1);
    return last !== undefined && last.at > SETTLING_MS ? last : undefined;
  });
  const { earlier, later, seconds } = await probe.watch(MEASURED_S);

  const readings = (await probe.readings()).filter(({ at }) => at > SETTLING_MS);
  const latency = spread(readings.map((reading) => reading.latency));
  const watched = between(earlier, later);
  const row = {
    'p50 ms': latency.p50,
    'p95 ms': latency.p95,
    'max ms': latency.max,
    frames: latency.n,
    freezes: watched.freezeCount,
    'concealed %': Math.round(concealedShare(watched) * 10_000) / 100,
    'video buffer ms': Math.round((watched.videoBufferSeconds / watched.videoBufferFrames) * 1_000),
  };
  report('latency', { '720p30, AAC 48 kHz, 60 s': row }, readings);

  // Wide margins: the table is the result, these only notice that something is broken.
  expect(latency.n / seconds).toBeGreaterThan(20);
  expect(latency.p50).toBeLessThan(300);
  expect(watched.freezeCount).toBe(0);
});
