import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import type { Problem, Server } from '../harness/server';
import { faults } from '../harness/faults';
import { until } from '../harness/until';

/** Long enough for several keyframes of the pyramid, which comes with one a second. */
const WATCHED_S = 5;

test('B-frames that nothing refers to are left out, and the rest plays in order', async ({
  server,
  teach,
  probe,
}) => {
  teach(LESSONS.oneBFrame);
  await server.untilLive();
  await probe.join(server);
  await probe.cleanStretch(server, WATCHED_S, (watched, seconds) => {
    const fps = watched.framesDecoded / seconds;
    return faults({
      // Every other frame of thirty is a B-frame.
      [`${fps} frames a second`]: fps > 12 && fps < 18,
      [`${watched.freezeCount} freezes`]: watched.freezeCount === 0,
    });
  });
  expect(await problem(server)).toEqual({
    code: 'b_frames_dropped',
    text: expect.stringContaining('B-frames'),
  });
});

test('a B-pyramid is reduced to its keyframes, and the teacher is told which setting to change', async ({
  server,
  teach,
  probe,
}) => {
  teach(LESSONS.bPyramid);
  await server.untilLive();
  await probe.join(server);
  await probe.cleanStretch(server, WATCHED_S, (watched, seconds) => {
    const fps = watched.framesDecoded / seconds;
    const others = watched.framesDecoded - watched.keyFramesDecoded;
    return faults({
      [`${fps} frames a second`]: fps > 0.5 && fps < 2,
      // Chromium counts a keyframe when it arrives and a frame when it is decoded, so either look may be one off.
      [`${others} frames that are no keyframes`]: others <= 1,
      silence: watched.audioEnergy > 0,
    });
  });
  expect(await problem(server)).toEqual({
    code: 'b_frames_keyframes_only',
    text: expect.stringContaining('B-frames'),
  });
});

/** The problem in the stream's status, which the next heartbeat may have to bring. */
function problem(server: Server): Promise<Problem> {
  return until('a problem in the stream status', async () => (await server.stream())?.problems[0]);
}

test('the page says what is wrong for as long as it is', async ({ server, student, teach }) => {
  teach(LESSONS.bPyramid);
  await student.reaches('live');
  const shown = student.page.getByTestId('problems');
  await shown.getByText('B-frames').waitFor();
  expect(await shown.getByRole('listitem').allTextContents()).toEqual([(await problem(server)).text]);
  // The teacher has changed the setting; the app takes over.
  teach(LESSONS.baseline);
  await shown.waitFor({ state: 'detached' });
});

test('a page that waits says why the app was refused', async ({ student, teach }) => {
  await student.reaches('waiting');
  teach({ x264: ['-preset', 'ultrafast', '-profile:v', 'high444', '-pix_fmt', 'yuv444p'] });
  await student.page.getByTestId('problems').getByText('choose Baseline, Main or High').waitFor();
  expect(await student.state()).toBe('waiting');
});
