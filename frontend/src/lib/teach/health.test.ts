import { expect, test } from 'vitest';
import type { Lesson } from '../api/events';
import { Sightings } from './health';

const lesson = (codes: string[], state: Lesson['state'] = 'live'): Lesson => ({
  class: 'lesson',
  name: 'Lesson',
  state,
  since_ms: 0,
  viewers: 0,
  has_video: true,
  has_audio: true,
  width: 0,
  height: 0,
  bitrate_bps: 0,
  problems: codes.map((code) => ({ code, text: `${code}!` })),
});

test('each problem is known since it was seen first', () => {
  const sightings = new Sightings();
  expect(sightings.look(lesson([]), 1)).toEqual({ since: 1, problems: [] });
  sightings.look(lesson(['a']), 2);
  const both = sightings.look(lesson(['a', 'b']), 3);
  expect(both.problems.map(({ code, since }) => [code, since])).toEqual([
    ['a', 2],
    ['b', 3],
  ]);
  expect(sightings.look(lesson([]), 4).since, 'good again').toBe(4);
  expect(sightings.look(lesson([]), 5).since, 'still').toBe(4);
  expect(sightings.look(lesson(['a']), 6).problems[0]?.since, 'another time').toBe(6);
});

test('what was wrong with an app that was refused', () => {
  const refused = new Sightings().look(lesson(['codec_unsupported'], 'reconnecting'), 1);
  expect(refused.problems.map(({ code }) => code)).toEqual(['codec_unsupported']);
});

test('another lesson begins without a past', () => {
  const sightings = new Sightings();
  sightings.look(lesson(['a']), 1);
  expect(sightings.look(lesson([], 'offline'), 2).since).toBe(0);
  expect(sightings.look(lesson(['a']), 3)).toEqual({
    since: 3,
    problems: [{ code: 'a', text: 'a!', since: 3 }],
  });
});
