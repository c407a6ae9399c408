import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';

// RFC 7714. libwebrtc offers AES_CM_128_HMAC_SHA1_80 as well, so the server's preference is what decides.
test('Chromium and the server agree on AES-GCM', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  await probe.join(server);
  expect(await probe.security()).toMatchObject({
    dtlsState: 'connected',
    certificateKey: 'ec',
    srtpCipher: expect.stringMatching(/^(SRTP_)?AEAD_AES_(128|256)_GCM$/),
  });
});

// What proves a viewer is the fingerprint in its offer. GStreamer's certificates have RSA keys; so can Chromium's.
test('Chromium plays with an RSA certificate', async ({ server, teach, probe }) => {
  teach(LESSONS.baseline);
  await server.untilLive();
  for (const rsaBits of [2_048, 3_072, 4_096]) {
    await probe.join(server, { rsaBits });
    expect((await probe.playback()).framesDecoded).toBeGreaterThan(0);
    expect(await probe.security()).toMatchObject({ dtlsState: 'connected', certificateKey: 'rsa' });
  }
});
