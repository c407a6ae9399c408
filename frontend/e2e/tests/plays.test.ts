import { expect } from 'vitest';
import type { Probe, Watched } from '../harness/browser';
import type { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { LESSONS, type Lesson, publishWithGstreamer, TONE_HZ } from '../harness/publisher';
import type { Server } from '../harness/server';
import { between, concealedShare } from '../harness/stats';
import { until } from '../harness/until';
import type { Picture } from '../page/probe';

/** How long a lesson is watched. Two seconds hold a keyframe of every variant, and 100 packets of sound. */
const WATCHED_S = 3;

/** Before the counting starts: the browser finds out how evenly the sound arrives, and makes up for it once. */
const SETTLING_S = 1;

/** Made-up samples that a join may begin with, at 48 kHz: a tenth of a second. */
const JOIN_CONCEALED_MAX = 4_800;

/** One bin of the page's 16,384-point spectrum is 3 Hz wide; the wrong sample rate would be off by 36 Hz at least. */
const TONE_TOLERANCE_HZ = 6;

/** Decoded frames a second that count as fluent, out of 30. Chromium may drop a few while it settles. */
const FLUENT_FPS = 25;

const VARIANTS: Record<string, Lesson> = {
  'H.264 baseline': LESSONS.baseline,
  'H.264 High without B-frames': LESSONS.high,
  'four slices a frame': LESSONS.fourSlices,
  'AAC at 44.1 kHz in mono': LESSONS.aac44Mono,
  'AAC at 48 kHz in stereo': LESSONS.aac48Stereo,
  'AAC at 32 kHz in stereo': LESSONS.aac32Stereo,
};

for (const [name, lesson] of Object.entries(VARIANTS)) {
  test(`${name} plays in Chromium`, async ({ server, teach, probe }) => {
    await attend(server, teach(lesson), probe);
    await seesAndHears(probe);
  });
}

test('audio alone plays in Chromium', async ({ server, teach, probe }) => {
  await attend(server, teach(LESSONS.audioOnly), probe);
  const watched = await probe.watch(WATCHED_S);
  await hears(probe, watched);
  expect(watched.later.framesDecoded).toBe(0);
});

test('video alone plays in Chromium', async ({ server, teach, probe }) => {
  await attend(server, teach(LESSONS.videoOnly), probe);
  const first = await pictured(probe);
  const watched = await probe.watch(WATCHED_S);
  await sees(probe, watched, first);
  expect(watched.later.samplesReceived).toBe(0);
});

test("GStreamer's rtmp2sink plays in Chromium", async ({ server, keep, probe }) => {
  await attend(server, keep(publishWithGstreamer(server.publishUrl)), probe);
  await seesAndHears(probe);
});

test('a publisher that sends nothing but the bare key plays in Chromium', async ({
  server,
  teach,
  probe,
}) => {
  await attend(server, teach(LESSONS.baseline, server.bareKeyUrl), probe);
  await seesAndHears(probe);
});

/** Waits for the lesson, or for the publisher's reason not to give it, and joins. */
async function attend(server: Server, publisher: Child, probe: Probe): Promise<void> {
  const refused = publisher.exited.then((how) => Promise.reject(new Error(how)));
  // The publisher is ended with the test, and then nobody listens any more.
  refused.catch(() => undefined);
  await Promise.race([server.untilLive(), refused]);
  await probe.join(server);
  const { later } = await probe.watch(SETTLING_S);
  expect(later.concealedSamples).toBeLessThan(JOIN_CONCEALED_MAX);
}

async function seesAndHears(probe: Probe): Promise<void> {
  const first = await pictured(probe);
  const watched = await probe.watch(WATCHED_S);
  await sees(probe, watched, first);
  await hears(probe, watched);
}

/** Waits until something that is no blank screen has been decoded, and returns it. */
function pictured(probe: Probe): Promise<Picture> {
  return until('a decoded picture', async () => {
    const picture = await probe.picture();
    return picture.colours > 1 ? picture : undefined;
  });
}

/** Decoded frames grow fluently, and what is decoded is a moving picture. */
async function sees(probe: Probe, { earlier, later, seconds }: Watched, first: Picture): Promise<void> {
  const watched = between(earlier, later);
  expect(first).toMatchObject({ width: 640, height: 360 });
  expect(watched.framesDecoded / seconds).toBeGreaterThan(FLUENT_FPS);
  expect(watched.freezeCount).toBe(0);
  expect((await probe.picture()).checksum).not.toBe(first.checksum);
}

/** Decoded samples grow, hardly any are made up, and what is decoded is the publisher's tone at its own pitch. */
async function hears(probe: Probe, { earlier, later, seconds }: Watched): Promise<void> {
  const heard = between(earlier, later);
  expect(heard.samplesReceived / seconds).toBeGreaterThan(40_000);
  expect(heard.audioEnergy).toBeGreaterThan(0);
  expect(concealedShare(heard)).toBeLessThan(0.01);
  const { hertz } = await probe.tone();
  expect(Math.abs(hertz - TONE_HZ)).toBeLessThan(TONE_TOLERANCE_HZ);
}
