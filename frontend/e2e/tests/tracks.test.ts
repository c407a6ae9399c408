import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS, publishFile } from '../harness/publisher';
import { aac, after, flv, opus, picture } from '../harness/recording';
import { RESULTS } from '../harness/results';
import type { Student } from '../harness/student';
import { until } from '../harness/until';

/** The page's element runs, and the sound in it has energy. */
const isHeard = async (student: Student) => {
  const time = () => student.video.evaluate((video: HTMLVideoElement) => video.currentTime);
  const [before, { audioEnergy }] = [await time(), await student.playback()];
  await until('sound in an element that runs', async () => {
    const runs = (await time()) > before;
    return runs && (await student.playback()).audioEnergy > audioEnergy ? true : undefined;
  });
};

test('a lesson of sound alone is heard, and the page says that there is no picture', async ({
  student,
  teach,
}) => {
  teach(LESSONS.audioOnly);
  await student.reaches('live');
  await student.page.getByText('This lesson is sound only.').waitFor();
  await isHeard(student);
});

test('sound that begins later is heard in the same session', async ({ server, student, teach }) => {
  teach(LESSONS.videoOnly);
  await student.plays();
  const connections = await student.connections();
  const silent = await student.playback();
  expect(silent.audioEnergy).toBe(0);
  // The next app of the teacher takes over.
  teach(LESSONS.baseline);
  await isHeard(student);
  expect(await student.connections(), 'the session is the same').toBe(connections);
  expect((await student.playback()).framesDecoded).toBeGreaterThan(silent.framesDecoded);
  const codes = (await server.stream())?.problems.map(({ code }) => code);
  // Those two are of the machine as well.
  expect(codes?.filter((code) => code !== 'speed' && code !== 'lumps')).toEqual([]);
});

/** Pictures that may be missing in all: no gap is longer than 300 ms. */
const MISSED_MAX = 9;

/** A tone that is nearer to a pitch than to the others. */
const PITCH_TOLERANCE_HZ = 60;

test('sound that comes late, changes its rate and its codec and goes leaves the picture alone', async ({
  server,
  keep,
  probe,
}) => {
  const [late, gone] = [20, 10];
  const file = join(RESULTS, 'changing-sound.flv');
  const parts = [aac(440, 44_100, 1, 8), aac(880, 48_000, 2, 8), opus(1_320, 20)] as const;
  writeFileSync(
    file,
    flv(
      picture(late + gone + 36),
      after(late, parts[0]),
      after(late + 8, parts[1]),
      after(late + gone + 16, parts[2]),
    ),
  );
  keep(publishFile(file, server.publishUrl));
  await server.untilLive();
  await probe.join(server);
  const { iceUfrag, serverCertificate } = await probe.transport();
  const isHeard = async (hertz: number) =>
    until(
      `a tone of ${hertz} Hz`,
      async () => {
        const tone = await probe.tone();
        if (Math.abs(tone.hertz - hertz) < PITCH_TOLERANCE_HZ) return tone;
        throw new Error(`${tone.hertz} Hz at ${tone.decibels} dB`);
      },
      late * 1_500,
    );
  expect((await probe.playback()).audioEnergy, 'no sound at first').toBe(0);
  for (const hertz of [440, 880, 1_320]) {
    await isHeard(hertz);
    if (hertz !== 880) continue;
    await until(
      'silence',
      async () => ((await probe.tone()).decibels < -80 ? true : undefined),
      late * 1_000,
    );
  }
  const [due, { framesDecoded, framesDropped }] = [await probe.picturesDue(), await probe.playback()];
  expect(due).toBeGreaterThan((late + gone + 12) * 30);
  expect(
    framesDecoded,
    `of ${due} pictures (${framesDropped} came too late to be shown)`,
  ).toBeGreaterThanOrEqual(due - MISSED_MAX);
  expect(await probe.transport(), 'the session is the same').toMatchObject({ iceUfrag, serverCertificate });
  expect(await probe.states()).toEqual(['connecting', 'connected']);
});
