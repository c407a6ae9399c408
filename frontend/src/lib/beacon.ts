import type { Stats } from './whep/stats';

/** How often a player says how it goes. */
export const REPORT_MS = 10_000;

/** What is said, as docs/api.md has it. */
export interface PlaybackReport {
  is_seen: boolean;
  is_heard: boolean;
  delay_ms?: number;
  freezes: number;
  frozen_ms: number;
  packets: number;
  lost: number;
  first_picture_ms?: number;
}

/** What the page knows beside the statistics. */
export interface Around {
  /** The page is visible, or its picture floats. */
  isVisible: boolean;
  isPaused: boolean;
  isMuted: boolean;
  delayMs: number | undefined;
  firstPictureMs: number | undefined;
}

const whole = (value: number): number => Math.max(0, Math.round(value));

/** What happened from one reading of a session's statistics to another. */
export function reportOf(before: Stats | undefined, now: Stats, around: Around): PlaybackReport {
  const { isVisible, isPaused, isMuted, delayMs, firstPictureMs } = around;
  const since = (of: (stats: Stats) => number): number => whole(of(now) - (before ? of(before) : 0));
  return {
    is_seen: isVisible && !isPaused && since(({ frames }) => frames) > 0,
    is_heard: !isMuted && !isPaused && since(({ audioPackets }) => audioPackets) > 0,
    freezes: since(({ freezes }) => freezes),
    frozen_ms: since(({ frozenMs }) => frozenMs),
    packets: since(({ packets }) => packets),
    lost: since(({ lost }) => lost),
    ...(delayMs === undefined ? {} : { delay_ms: whole(delayMs) }),
    ...(firstPictureMs === undefined ? {} : { first_picture_ms: whole(firstPictureMs) }),
  };
}
