import { concealedShare, type Playback } from './stats';

/** What is wrong with a stretch of watching; nothing, when nothing is. */
export type Judge = (watched: Playback, seconds: number) => string[];

/** Decoded frames a second that count as fluent, out of 30. */
const FLUENT_FPS = 25;

/** The names of the checks that failed. */
export function faults(checks: Record<string, boolean>): string[] {
  return Object.keys(checks).filter((name) => checks[name] === false);
}

/** Decoded frames grow fluently. */
export function pictureFaults(watched: Playback, seconds: number): string[] {
  const fps = watched.framesDecoded / seconds;
  return faults({
    [`${fps.toFixed(1)} frames a second`]: fps > FLUENT_FPS,
    [`${watched.freezeCount} freezes`]: watched.freezeCount === 0,
  });
}

/** Decoded samples grow, and hardly any are made up. */
export function soundFaults(watched: Playback, seconds: number): string[] {
  const rate = watched.samplesReceived / seconds;
  const concealed = concealedShare(watched);
  return faults({
    [`${rate.toFixed(0)} samples a second`]: rate > 40_000,
    [`${(100 * concealed).toFixed(1)} % of the sound made up`]: concealed < 0.01,
    silence: watched.audioEnergy > 0,
  });
}
