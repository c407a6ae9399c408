import type { Student } from './student';

/** What WebRTC's statistics call a freeze at 30 pictures a second: three times as long as usual, and 150 ms longer at least. */
const FREEZE_MS = 183;

/** How long pictures of the element stood. */
export interface Pictures {
  longestMs: number;
  freezes: number;
  pictures: number;
}

declare global {
  interface Window {
    e2ePictures: Pictures & { at: number };
  }
}

/** Notes in the page from here on how long every picture of the element stands. */
export async function watchPictures(student: Student): Promise<void> {
  await student.video.evaluate((video: HTMLVideoElement, freezeMs) => {
    window.e2ePictures = { longestMs: 0, freezes: 0, pictures: 0, at: performance.now() };
    const note = (now: number): void => {
      const seen = window.e2ePictures;
      const stoodMs = now - seen.at;
      seen.longestMs = Math.max(seen.longestMs, stoodMs);
      seen.freezes += stoodMs > freezeMs ? 1 : 0;
      seen.pictures += 1;
      seen.at = now;
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
  }, FREEZE_MS);
}

/** What was before counts no longer. */
export async function forgetPictures(student: Student): Promise<void> {
  await student.page.evaluate(() => {
    Object.assign(window.e2ePictures, { longestMs: 0, freezes: 0, pictures: 0 });
  });
}

/** What was noted so far, with the time for which the newest picture stands. */
export function pictures(student: Student): Promise<Pictures> {
  return student.page.evaluate((freezeMs) => {
    const { longestMs, freezes, pictures, at } = window.e2ePictures;
    const standsMs = performance.now() - at;
    return {
      longestMs: Math.max(longestMs, standsMs),
      freezes: freezes + (standsMs > freezeMs ? 1 : 0),
      pictures,
    };
  }, FREEZE_MS);
}
