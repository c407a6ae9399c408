import { expect } from 'vitest';
import { ATTACKS, attack } from '../harness/hostile';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { between, concealedShare } from '../harness/stats';

/** What all attacks together may cost, above what the server needs for the lesson. */
const MEMORY_BYTES = 64 * 1_024 * 1_024;

test('strangers at the RTMP port cost the lesson nothing', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server);
  // The browser sizes its buffers in the first seconds of a lesson, with or without strangers.
  const { later: earlier } = await probe.watch(2);
  const idle = server.process.residentBytes();

  const began = performance.now();
  const sockets = [];
  for (const stranger of ATTACKS) {
    const outcome = await attack(server.ready.rtmp, stranger);
    sockets.push(...outcome.sockets);
    expect(outcome.admitted, stranger.name).toBeGreaterThan(0);
    expect(server.process.running, stranger.name).toBe(true);
  }
  const { later } = await probe.watch(3);
  const seconds = (performance.now() - began) / 1_000;
  for (const socket of sockets) socket.destroy();

  const watched = between(earlier, later);
  expect(watched.freezeCount).toBe(0);
  expect(watched.framesDecoded / seconds).toBeGreaterThan(25);
  expect(concealedShare(watched)).toBeLessThan(0.01);
  expect(server.process.peakResidentBytes() - idle).toBeLessThan(MEMORY_BYTES);
});
