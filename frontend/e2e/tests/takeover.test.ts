import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { faults, pictureFaults } from '../harness/faults';
import { until } from '../harness/until';

/** Seconds of a lesson after the takeover that must play like any other. */
const WATCHED_S = 4;

// From Wi-Fi to 4G: the phone comes from a new address while its old connection is silent but not closed.
test('a viewer stays connected while the phone reconnects beside a connection that hangs', async ({
  server,
  teach,
  probe,
}) => {
  const hanging = teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server);
  await until('picture and sound', async () => {
    const { framesDecoded, samplesReceived } = await probe.playback();
    return framesDecoded > 0 && samplesReceived > 0 ? true : undefined;
  });
  const before = await probe.transport();

  hanging.signal('SIGSTOP');
  await until('the picture to stand still', async () => {
    const { earlier, later } = await probe.watch(0.5);
    return later.framesDecoded === earlier.framesDecoded ? true : undefined;
  });
  teach(LESSONS.baseline);
  const stopped = await probe.playback();
  await until('frames to go on', async () => {
    const { framesDecoded } = await probe.playback();
    return framesDecoded > stopped.framesDecoded ? true : undefined;
  });

  await probe.cleanStretch(server, WATCHED_S, (watched, seconds) => [
    ...pictureFaults(watched, seconds),
    ...faults({ silence: watched.audioEnergy > 0 }),
  ]);
  // One page, one viewer, one RTCPeerConnection: had it been replaced, these would have begun anew.
  expect(await probe.states()).toEqual(['connecting', 'connected']);
  expect(await probe.transport()).toEqual(before);
  expect(hanging.running, 'the hanging phone is still there').toBe(true);
});
