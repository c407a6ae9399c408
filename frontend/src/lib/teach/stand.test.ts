import { expect, test } from 'vitest';
import type { Lesson, LessonState } from '../api/events';
import { standOf, timeOf, type Told } from './stand';

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

const stand = (over: Partial<Told>) =>
  standOf({
    lesson: lesson('live'),
    isFresh: true,
    end: undefined,
    skewMs: 500,
    heardAt: undefined,
    isLost: false,
    silentSince: undefined,
    ...over,
  });

test('each state of a lesson in words', () => {
  expect(stand({})).toMatchObject({ kind: 'live', since: 1_500 });
  expect(stand({ lesson: lesson('live', ['nothing_comes']), silentSince: 7 })).toMatchObject({
    kind: 'silent',
    since: 7,
  });
  expect(stand({ lesson: lesson('reconnecting') })).toMatchObject({ kind: 'away', since: 1_500 });
  expect(stand({ lesson: lesson('starting') }).kind).toBe('starting');
  expect(stand({ lesson: lesson('ended') }).kind).toBe('ended');
  expect(stand({ lesson: lesson('offline') }).kind).toBe('off');
  expect(stand({ lesson: lesson('offline'), end: 'ended' }).kind).toBe('ended');
  expect(stand({ lesson: lesson('offline'), end: 'away' }).kind).toBe('gone');
  expect(stand({ lesson: lesson('removed'), isFresh: false }).kind, 'the server says no more').toBe(
    'removed',
  );
});

test('what was heard before is not said on when the server cannot be heard', () => {
  const heardAt = Date.UTC(2026, 10, 23, 12, 41, 7);
  const lost = stand({ isFresh: false, heardAt });
  expect(lost.kind).toBe('unheard');
  expect(lost.detail).toContain(timeOf(heardAt));
  expect(lost.since).toBeUndefined();
  expect(stand({ lesson: undefined, isFresh: false }).kind, 'not yet').toBe('opening');
  expect(stand({ lesson: undefined, isFresh: false, isLost: true }).kind).toBe('unheard');
});
