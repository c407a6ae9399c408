import { expect } from 'vitest';
import type { Probe } from '../harness/browser';
import { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { until } from '../harness/until';

test('a network that blocks UDP is served over TCP on the same port', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server, { onlyTcp: true });
  await decodes(probe, 60);
  expect((await probe.route()).protocol).toBe('tcp');
});

test('a viewer that changes its network restarts ICE and the picture goes on', async ({
  server,
  teach,
  probe,
}) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server);
  await decodes(probe, 30);
  const before = await probe.transport();
  expect(before.serverCertificate).not.toBe('none');
  expect(await probe.route()).toEqual({ protocol: 'udp', iceState: 'connected' });

  expect(await probe.restartIce()).toBe(200);
  // More than the old pair of candidates could bring before the new one replaces it.
  await decodes(probe, 120);
  const after = await probe.transport();
  expect(after.iceUfrag).not.toBe(before.iceUfrag);
  expect(after).toEqual({ ...before, iceUfrag: after.iceUfrag });
  expect(await probe.route()).toEqual({ protocol: 'udp', iceState: 'connected' });
  expect(await probe.states()).toEqual(['connecting', 'connected']);
});

test('the bundled lesson, from another RTMP client in chunks of 128 bytes, plays in Chromium', async ({
  server,
  keep,
  probe,
}) => {
  keep(new Child(server.binary, ['demo', server.bareKeyUrl]));
  await server.untilLive();
  await probe.join(server);
  await decodes(probe, 60);
  await until('sound', async () => ((await probe.playback()).audioEnergy > 0 ? true : undefined));
});

/** Some seconds of a lesson, on a machine that decodes a few frames a second beside other work. */
const DECODED_WITHIN_MS = 50_000;

/** Waits until so many more frames have been decoded. */
async function decodes(probe: Probe, frames: number): Promise<void> {
  const { framesDecoded } = await probe.playback();
  await until(
    `${frames} more decoded frames`,
    async () => {
      const now = await probe.playback();
      return now.framesDecoded >= framesDecoded + frames ? true : undefined;
    },
    DECODED_WITHIN_MS,
  );
}
