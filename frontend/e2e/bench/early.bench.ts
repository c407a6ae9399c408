import type { Page } from 'playwright-core';
import { test } from '../harness/lesson';
import { LESSONS } from '../harness/publisher';
import { report, spread } from '../harness/results';
import { Student } from '../harness/student';
import { until } from '../harness/until';
import { Witness } from '../harness/witness';

/** Lessons that begin while a student waits, and end: `JOINS=60 make bench-browser` for the tail. */
const TAUGHT = Number(process.env['JOINS'] ?? 20);

interface Times {
  /** When the server first said that the lesson can be watched. */
  liveAt: number;
  /** When the first picture was shown. */
  shownAt: number;
}

declare global {
  interface Window {
    e2eTimes: Times;
  }
}

test(
  'a student who is early, and one whose teacher goes',
  { timeout: TAUGHT * 30_000 },
  async ({ browser, server, teach }) => {
    const early: number[] = [];
    const ended: number[] = [];
    const away: number[] = [];
    for (let at = 0; at < TAUGHT; at += 1) {
      const student = await Student.open(browser, server);
      await student.page
        .locator('[data-scene=waiting], [data-scene=ended], [data-scene=teacher-away]')
        .waitFor();
      await note(student.page, `/api/v1/streams/${server.ready.class}`);
      const witness = await Witness.of(student.page);
      const teacher = teach(LESSONS.baseline);
      const times = await until('a picture', async () => {
        const found = await student.page.evaluate(() => window.e2eTimes);
        return found.liveAt > 0 && found.shownAt > 0 ? found : undefined;
      });
      early.push(times.shownAt - times.liveAt);
      await student.plays();
      const over = Date.now();
      if (at % 2 === 0) {
        await teacher.stop();
        ended.push(await witness.tookToSee('ended', over));
      } else {
        await teacher.kill();
        away.push(await witness.tookToSee('teacher-away', over));
      }
      await student.dispose();
    }
    const rows = {
      'live to first picture': spread(early),
      'stopped to "ended"': spread(ended),
      'killed to "away"': spread(away),
    };
    report('early', rows, { early, ended, away });
  },
);

/** Lets the page note when the server says that there is a lesson, and when a picture is shown. */
function note(page: Page, url: string): Promise<void> {
  return page.evaluate((url) => {
    const now = (): number => performance.timeOrigin + performance.now();
    window.e2eTimes = { liveAt: 0, shownAt: 0 };
    document.querySelector('video')?.requestVideoFrameCallback(() => {
      window.e2eTimes.shownAt = now();
    });
    const look = async (): Promise<void> => {
      const answer = await fetch(url);
      const isLive = answer.ok && ((await answer.json()) as { state: string }).state === 'active';
      if (isLive) window.e2eTimes.liveAt = now();
      else setTimeout(() => void look(), 10);
    };
    void look();
  }, url);
}
