import { expect } from 'vitest';
import { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { until } from '../harness/until';

/** The transports that the selected pair of candidates uses. */
interface Selected {
  protocol: string;
  localUfrag: string;
}

test('a network that blocks UDP is served over TCP on the same port', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  const { webrtc_url: endpoint, token } = await server.token();
  const frames = await probe.page.evaluate(
    async ([endpoint, token]) => {
      const pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: 'max-bundle' });
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.addTransceiver('audio', { direction: 'recvonly' });
      await pc.setLocalDescription();
      const headers = { 'content-type': 'application/sdp', authorization: `Bearer ${token}` };
      const answer = await fetch(endpoint, { method: 'POST', headers, body: pc.localDescription?.sdp ?? '' });
      // As if the network dropped every datagram: the player knows of nothing but TCP.
      const sdp = (await answer.text()).replace(/^a=candidate:.* udp .*\r\n/gm, '');
      await pc.setRemoteDescription({ type: 'answer', sdp });
      const read = async () => {
        const stats = [...(await pc.getStats()).values()] as Record<string, unknown>[];
        const pair = stats.find((stat) => stat['type'] === 'candidate-pair' && stat['nominated'] === true);
        const remote = stats.find((stat) => stat['id'] === pair?.['remoteCandidateId']);
        const video = stats.find((stat) => stat['type'] === 'inbound-rtp' && stat['kind'] === 'video');
        return { protocol: remote?.['protocol'], frames: Number(video?.['framesDecoded'] ?? 0) };
      };
      const deadline = performance.now() + 15_000;
      let seen = await read();
      while (seen.frames < 60 && performance.now() < deadline) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
        seen = await read();
      }
      pc.close();
      return seen;
    },
    [endpoint, token] as const,
  );
  expect(frames.protocol).toBe('tcp');
  expect(frames.frames).toBeGreaterThanOrEqual(60);
});

test('a viewer that changes its network restarts ICE and the picture goes on', async ({
  server,
  teach,
  probe,
}) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  const { webrtc_url: endpoint, token } = await server.token();
  const outcome = await probe.page.evaluate(
    async ([endpoint, token]) => {
      const pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: 'max-bundle' });
      const states: string[] = [];
      pc.onconnectionstatechange = () => states.push(pc.connectionState);
      pc.addTransceiver('video', { direction: 'recvonly' });
      pc.addTransceiver('audio', { direction: 'recvonly' });
      await pc.setLocalDescription();
      const headers = { 'content-type': 'application/sdp', authorization: `Bearer ${token}` };
      const response = await fetch(endpoint, {
        method: 'POST',
        headers,
        body: pc.localDescription?.sdp ?? '',
      });
      const session = new URL(response.headers.get('location') ?? '', response.url).href;
      const answer = await response.text();
      await pc.setRemoteDescription({ type: 'answer', sdp: answer });
      const read = async (): Promise<Selected & { frames: number }> => {
        const stats = [...(await pc.getStats()).values()] as Record<string, unknown>[];
        const transport = stats.find((stat) => stat['type'] === 'transport');
        const video = stats.find((stat) => stat['type'] === 'inbound-rtp' && stat['kind'] === 'video');
        return {
          protocol: String(transport?.['iceState']),
          localUfrag: String(transport?.['iceLocalUsernameFragment']),
          frames: Number(video?.['framesDecoded'] ?? 0),
        };
      };
      const reach = async (frames: number) => {
        const deadline = performance.now() + 15_000;
        let seen = await read();
        while (seen.frames < frames && performance.now() < deadline) {
          await new Promise((resolve) => requestAnimationFrame(resolve));
          seen = await read();
        }
        return seen;
      };
      const before = await reach(30);
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const line = (sdp: string, name: string) => new RegExp(`^a=${name}:.*$`, 'm').exec(sdp)?.[0] ?? '';
      const offer = pc.localDescription?.sdp ?? '';
      const fragment = `${line(offer, 'ice-ufrag')}\r\n${line(offer, 'ice-pwd')}\r\n`;
      const patched = await fetch(session, {
        method: 'PATCH',
        headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
        body: fragment,
      });
      const restarted = await patched.text();
      const sdp = answer
        .replace(/^a=ice-ufrag:.*$/gm, line(restarted, 'ice-ufrag'))
        .replace(/^a=ice-pwd:.*$/gm, line(restarted, 'ice-pwd'));
      await pc.setRemoteDescription({ type: 'answer', sdp });
      const after = await reach(before.frames + 120);
      pc.close();
      return { status: patched.status, before, after, states };
    },
    [endpoint, token] as const,
  );
  expect(outcome.status).toBe(200);
  expect(outcome.after.localUfrag).not.toBe(outcome.before.localUfrag);
  expect(outcome.after.frames).toBeGreaterThanOrEqual(outcome.before.frames + 120);
  expect(outcome.states).not.toContain('failed');
});

test('the bundled lesson, from another RTMP client in chunks of 128 bytes, plays in Chromium', async ({
  server,
  keep,
  probe,
}) => {
  keep(new Child(server.binary, ['demo', server.bareKeyUrl]));
  await server.untilLive();
  await probe.join(server);
  const { earlier, later } = await probe.watch(3);
  expect(later.framesDecoded - earlier.framesDecoded).toBeGreaterThan(60);
  await until('sound', async () => ((await probe.playback()).audioEnergy > 0 ? true : undefined));
});
