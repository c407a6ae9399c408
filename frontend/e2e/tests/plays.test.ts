import { expect } from 'vitest';
import type { Probe } from '../harness/browser';
import type { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { LESSONS, type Lesson, publishWithGstreamer, TONE_HZ } from '../harness/publisher';
import type { Server } from '../harness/server';
import { pictureFaults, soundFaults } from '../harness/faults';
import { until } from '../harness/until';
import type { Picture } from '../page/probe';

/** How long a lesson is watched. Two seconds hold a keyframe of every variant, and 100 packets of sound. */
const WATCHED_S = 3;

/** One bin of the page's 16,384-point spectrum is 3 Hz wide; the wrong sample rate would be off by 36 Hz at least. */
const TONE_TOLERANCE_HZ = 6;

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
    await seesAndHears(server, probe);
  });
}

test('audio alone plays in Chromium', async ({ server, teach, probe }) => {
  await attend(server, teach(LESSONS.audioOnly), probe);
  const end = await probe.cleanStretch(server, WATCHED_S, soundFaults);
  await isInTune(probe);
  expect(end.framesDecoded).toBe(0);
});

test('video alone plays in Chromium', async ({ server, teach, probe }) => {
  await attend(server, teach(LESSONS.videoOnly), probe);
  const first = await pictured(probe);
  const end = await probe.cleanStretch(server, WATCHED_S, pictureFaults);
  await isMoving(probe, first);
  expect(end.samplesReceived).toBe(0);
});

test("GStreamer's rtmp2sink plays in Chromium", async ({ server, keep, probe }) => {
  await attend(server, keep(publishWithGstreamer(server.publishUrl)), probe);
  await seesAndHears(server, probe);
});

test('a publisher that sends nothing but the bare key plays in Chromium', async ({
  server,
  teach,
  probe,
}) => {
  await attend(server, teach(LESSONS.baseline, server.bareKeyUrl), probe);
  await seesAndHears(server, probe);
});

/** Waits for the lesson, or for the publisher's reason not to give it, and joins. */
async function attend(server: Server, publisher: Child, probe: Probe): Promise<void> {
  const refused = publisher.exited.then((how) => Promise.reject(new Error(how)));
  // The publisher is ended with the test, and then nobody listens any more.
  refused.catch(() => undefined);
  await Promise.race([server.untilLive(), refused]);
  await probe.cleanJoin(server);
}

async function seesAndHears(server: Server, probe: Probe): Promise<void> {
  const first = await pictured(probe);
  await probe.cleanStretch(server, WATCHED_S, (watched, seconds) => [
    ...pictureFaults(watched, seconds),
    ...soundFaults(watched, seconds),
  ]);
  await isMoving(probe, first);
  await isInTune(probe);
}

/** Waits until something that is no blank screen has been decoded, and returns it. */
function pictured(probe: Probe): Promise<Picture> {
  return until('a decoded picture', async () => {
    const picture = await probe.picture();
    return picture.colours > 1 ? picture : undefined;
  });
}

/** What is decoded is a picture of the publisher's size, and it moves. */
async function isMoving(probe: Probe, first: Picture): Promise<void> {
  expect(first).toMatchObject({ width: 640, height: 360 });
  expect((await probe.picture()).checksum).not.toBe(first.checksum);
}

/** What is decoded is the publisher's tone at its own pitch. */
async function isInTune(probe: Probe): Promise<void> {
  const { hertz } = await probe.tone();
  expect(Math.abs(hertz - TONE_HZ)).toBeLessThan(TONE_TOLERANCE_HZ);
}
