import { expect } from 'vitest';
import { ALL, record, type Row } from './report';

/** What a player decoded in some seconds. */
export interface Seen {
  /** Decoded pictures, and how many different ones were found among those that were looked at. */
  pictures: number;
  different: number;
  width: number;
  height: number;
  /** Decoded samples at 48 kHz. */
  samples: number;
  /** The root mean square of the samples; 1 is as loud as can be. */
  level: number;
  /** From the POST to the first picture, or sound where there is none. */
  firstMs?: number;
}

/** A second of both is the least that counts, whatever a busy machine makes of the rest. */
const PICTURES_MIN = 30;
const DIFFERENT_MIN = 10;
const SAMPLES_MIN = 48_000;

/** The lesson's tone has 0.09. */
const LEVEL_MIN = 0.02;

export function hasPicture({ pictures, different, width, height }: Seen): boolean {
  return pictures >= PICTURES_MIN && different >= DIFFERENT_MIN && width === 640 && height === 360;
}

export function hasSound({ samples, level }: Seen): boolean {
  return samples >= SAMPLES_MIN && level >= LEVEL_MIN;
}

/** The result that a row has. */
export function resultOf(seen: Seen): string {
  const picture = hasPicture(seen);
  if (hasSound(seen)) return picture ? ALL : 'sound';
  return picture ? 'picture' : 'nothing';
}

/** A player as the table names it, and what is expected of it. */
export interface Expectation {
  name: string;
  /** Everything, unless the program is known to fall short. */
  result?: string;
  note?: string;
}

/** Lets a player watch, records its row whatever comes of it, and fails the test when that is not what is expected. */
export async function judge(
  { name, result = ALL, note }: Expectation,
  watch: () => Promise<Seen & { version: string }>,
): Promise<void> {
  const remark = note === undefined ? {} : { note };
  const watched = await watch().catch((error: unknown) => {
    const [why = ''] = String(error).split('\n');
    record({ kind: 'player', name, version: '', result: 'nothing', note: why });
    throw error;
  });
  const { version, firstMs, ...seen } = watched;
  const row: Row = { kind: 'player', name, version, result: resultOf(watched), ...remark };
  if (firstMs !== undefined) row.firstFrameMs = firstMs;
  if (row.result !== result) row.note = `Unexpected, with ${JSON.stringify(seen)}.`;
  record(row);
  expect(row.result, JSON.stringify(watched)).toBe(result);
}
