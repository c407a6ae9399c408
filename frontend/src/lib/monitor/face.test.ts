import { expect, test } from 'vitest';
import type { Lesson, LessonState } from '../api/events';
import { arrange, countsOf, keepPlaces, kindOf } from './face';

function lesson(name: string, state: LessonState, problem?: string): Lesson {
  return {
    class: name.toLowerCase().replaceAll(' ', '-'),
    name,
    state,
    since_ms: null,
    viewers: 3,
    has_video: true,
    has_audio: true,
    width: 640,
    height: 360,
    bitrate_bps: 0,
    problems: problem === undefined ? [] : [{ code: problem, text: problem }],
  };
}

const ALL = [
  lesson('Art 2', 'offline'),
  lesson('Zoology', 'live', 'lumps'),
  lesson('Maths 10', 'live'),
  lesson('Maths 9', 'live'),
  lesson('Français', 'reconnecting'),
  lesson('Sport', 'ended'),
];

test('problems come first, then what is live by name, then the rest', () => {
  expect(arrange(ALL, '', 'all')).toEqual(['français', 'zoology', 'maths-9', 'maths-10', 'sport', 'art-2']);
});

test('a search looks at names without accents and cases', () => {
  expect(arrange(ALL, ' francais', 'all')).toEqual(['français']);
  expect(arrange(ALL, 'MATHS', 'live')).toEqual(['maths-9', 'maths-10']);
  expect(arrange(ALL, 'maths', 'problems')).toEqual([]);
});

test('filters and counts agree', () => {
  const counts = countsOf(ALL);
  expect(counts).toEqual({ all: 6, live: 3, problems: 2, offline: 2, viewers: 9 });
  for (const filter of ['all', 'live', 'problems', 'offline'] as const) {
    expect(arrange(ALL, '', filter)).toHaveLength(counts[filter]);
  }
});

test('a class that is removed is not counted, and stays in its place while nothing may jump', () => {
  const removed = lesson('Gone', 'removed');
  expect(countsOf([removed]).all).toBe(0);
  expect(arrange([removed], '', 'all')).toEqual([]);
  const known = new Set(['b', 'gone', 'c', 'new']);
  expect(keepPlaces(['b', 'gone', 'a', 'c'], ['new', 'c', 'b'], known)).toEqual(['b', 'gone', 'c', 'new']);
});

test('a lesson with a problem is one, also while it starts', () => {
  expect(kindOf(lesson('A', 'live', 'lumps'))).toBe('problem');
  expect(kindOf(lesson('A', 'starting', 'picture_unusable'))).toBe('problem');
  expect(kindOf(lesson('A', 'ended', 'lumps'))).toBe('ended');
});
