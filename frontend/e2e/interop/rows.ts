import { expect } from 'vitest';
import { TONE_HZ } from '../harness/publisher';
import { SIZE } from './publishers';
import { record } from './report';
import type { Seen } from './published';

/** One bin of the page's spectrum is 3 Hz wide. */
const TONE_TOLERANCE_HZ = 6;

/** What the server says of a busy machine, and not of a program. */
const OF_THE_MACHINE = ['speed', 'lumps'];

/** Within this the API tells what a stream's app does wrong: docs/api.md. */
export const TOLD_MS = 5_000;

/** How a program is known to do. */
export interface Expected {
  name: string;
  result: Seen['result'];
  /** Codes of the problems that the server tells of, and goes on telling. */
  problems: string[];
  size?: string;
  /** What is sent has no steady pitch. */
  isUntuned?: boolean;
  note?: string;
}

/** Prints and keeps what was seen, and fails when it is not what is known of the program. */
export function conclude(expected: Expected, version: string, seen: Seen): void {
  const { name, result } = expected;
  console.log(`${name} ${version}: ${JSON.stringify(seen, null, 1)}`);
  const note = seen.result === result ? expected.note : `Expected was: ${result}.`;
  record({
    kind: 'publisher',
    name,
    version,
    result: seen.result,
    ...(seen.firstFrameMs === undefined ? {} : { firstFrameMs: seen.firstFrameMs }),
    ...(note === undefined ? {} : { note }),
  });
  const lasting = seen.problems.filter((problem) => problem.isLasting).map(({ code }) => code);
  expect(seen.result, JSON.stringify(seen)).toBe(result);
  expect(lasting.filter((code) => !OF_THE_MACHINE.includes(code)).sort()).toEqual(expected.problems);
  if (result === 'nothing') return;
  expect(seen.size).toBe(expected.size ?? `${SIZE.width}x${SIZE.height}`);
  if (!expected.isUntuned) expect(Math.abs(seen.hertz - TONE_HZ)).toBeLessThan(TONE_TOLERANCE_HZ);
}

/** Keeps that a program was not tried, and answers why. */
export function notTried({ name }: Expected, needs: string): string {
  const note = `${needs} is not installed here.`;
  record({ kind: 'publisher', name, version: '', result: 'not tried', note });
  return note;
}
