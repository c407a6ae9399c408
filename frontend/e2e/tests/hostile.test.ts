import { expect } from 'vitest';
import { untilClean } from '../harness/clean';
import { faults, pictureFaults } from '../harness/faults';
import { ATTACKS, type Attack, attack, type Outcome } from '../harness/hostile';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import type { Server } from '../harness/server';
import { between, concealedShare } from '../harness/stats';
import { until } from '../harness/until';

/** What all attacks together may cost, above what the server needs for the lesson. */
const MEMORY_BYTES = 64 * 1_024 * 1_024;

test('strangers at the RTMP port cost the lesson nothing', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server);
  // The browser sizes its buffers in the first seconds of a lesson, with or without strangers.
  await probe.watch(2);
  const idle = server.process.residentBytes();

  await untilClean(server.process.pid, async () => {
    const [earlier, began] = [await probe.playback(), performance.now()];
    const sockets = [];
    for (const stranger of ATTACKS) {
      const outcome = await admitted(server, stranger);
      sockets.push(...outcome.sockets);
      expect(server.process.running, stranger.name).toBe(true);
    }
    const { later } = await probe.watch(3);
    const seconds = (performance.now() - began) / 1_000;
    for (const socket of sockets) socket.destroy();

    const watched = between(earlier, later);
    const concealed = concealedShare(watched);
    return [
      ...pictureFaults(watched, seconds),
      ...faults({ [`${100 * concealed} % of the sound made up`]: concealed < 0.01 }),
    ];
  });
  expect(server.process.peakResidentBytes() - idle).toBeLessThan(MEMORY_BYTES);
});

/** Makes an attack that is let in: the strangers of an earlier round may still be leaving. */
function admitted(server: Server, stranger: Attack): Promise<Outcome> {
  return until(`${stranger.name} to be let in`, async () => {
    const outcome = await attack(server.ready.rtmp, stranger);
    return outcome.admitted > 0 ? outcome : undefined;
  });
}
