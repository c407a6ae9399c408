import { expect, test } from 'vitest';
import { strings } from '../strings';
import type { Lesson, LessonState } from './api/events';
import { sceneOf, type Known } from './scene';

const lesson = (state: LessonState, codes: string[] = []): Lesson => ({
  class: 'lesson',
  name: 'Lesson',
  state,
  since_ms: 1_000,
  viewers: 3,
  has_video: true,
  has_audio: true,
  width: 1280,
  height: 720,
  bitrate_bps: 1_500_000,
  problems: codes.map((code) => ({ code, text: code })),
});

const known = (over: Partial<Known>): Known => ({
  state: 'live',
  reason: undefined,
  still: 'no',
  pictureless: undefined,
  lesson: lesson('live'),
  isFresh: true,
  end: undefined,
  skewMs: 0,
  playsOn: false,
  ...over,
});

const kind = (over: Partial<Known>) => sceneOf(known(over)).kind;

test('of the lesson the server knows, whatever plays', () => {
  expect(kind({})).toBe('live');
  expect(kind({ lesson: lesson('ended') })).toBe('ended');
  expect(kind({ lesson: lesson('reconnecting') })).toBe('teacher-away');
  expect(kind({ lesson: lesson('starting') })).toBe('starting');
  expect(kind({ lesson: lesson('live', ['nothing_comes']) })).toBe('teacher-away');
  expect(kind({ lesson: lesson('offline') })).toBe('waiting');
  expect(kind({ lesson: lesson('offline'), end: 'ended' })).toBe('ended');
  expect(sceneOf(known({ lesson: lesson('offline'), end: 'away' })).title).toBe(strings.scenes.gone);
});

test('of the way to it the page knows', () => {
  expect(kind({ state: 'connecting' })).toBe('connecting');
  expect(kind({ state: 'reconnecting', reason: 'network' })).toBe('trouble');
  expect(sceneOf(known({ still: 'silent' })).title).toBe(strings.scenes.still);
  expect(sceneOf(known({ still: 'unreachable' })).title).toBe(strings.scenes.unreachable);
  expect(kind({ state: 'denied', reason: 'pin_needed', lesson: lesson('live') })).toBe('denied');
});

test('what was said before is not said on when the server cannot be heard', () => {
  for (const state of ['ended', 'reconnecting', 'offline', 'starting'] as const) {
    expect(kind({ lesson: lesson(state), isFresh: false }), state).toBe('live');
    expect(kind({ lesson: lesson(state), isFresh: false, state: 'reconnecting', reason: 'server' })).toBe(
      'trouble',
    );
  }
  expect(kind({ lesson: undefined, isFresh: false, state: 'waiting' })).toBe('waiting');
});

test('times of the server are told by the clock of the page', () => {
  expect(sceneOf(known({ lesson: lesson('reconnecting'), skewMs: 500 })).since).toBe(1_500);
});

test('a lesson without a picture says so', () => {
  expect(sceneOf(known({ pictureless: 'soundOnly' })).title).toBe(strings.pictureless.soundOnly);
});

test('what plays is not said to be away', () => {
  for (const state of ['reconnecting', 'offline', 'ended'] as const)
    expect(kind({ lesson: lesson(state), playsOn: true }), state).toBe('live');
});
