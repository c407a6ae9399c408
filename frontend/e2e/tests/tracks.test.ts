import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
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
  await student.page.getByTestId('unmute').click();
  await isHeard(student);
});

test('sound that begins later is heard in the same session', async ({ server, student, teach }) => {
  teach(LESSONS.videoOnly);
  await student.plays();
  const connections = await student.connections();
  const silent = await student.playback();
  expect(silent.audioEnergy).toBe(0);
  await student.page.getByTestId('unmute').click();
  // The next app of the teacher takes over.
  teach(LESSONS.baseline);
  await isHeard(student);
  expect(await student.connections(), 'the session is the same').toBe(connections);
  expect((await student.playback()).framesDecoded).toBeGreaterThan(silent.framesDecoded);
  expect((await server.stream())?.problems).toEqual([]);
});
