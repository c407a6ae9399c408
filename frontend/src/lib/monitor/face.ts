import type { Lesson } from '../api/events';

/** What a class looks like on the wall. */
export type Kind =
  | 'live'
  /** Live, and something is wrong with what the app sends. */
  | 'problem'
  | 'starting'
  | 'reconnecting'
  | 'ended'
  | 'offline'
  | 'removed'
  /** The server cannot be heard, so that nobody knows. */
  | 'old';

export const FILTERS = ['all', 'live', 'problems', 'offline'] as const;
export type Filter = (typeof FILTERS)[number];

export interface Counts {
  all: number;
  live: number;
  problems: number;
  offline: number;
  viewers: number;
}

/** What is known of a lesson while the server can be heard. */
export function kindOf({ state, problems }: Lesson): Exclude<Kind, 'old'> {
  return (state === 'live' || state === 'starting') && problems.length > 0 ? 'problem' : state;
}

/** Somebody should look at it: something is wrong, or the teacher's connection is lost. */
export function isTroubled(lesson: Lesson): boolean {
  const kind = kindOf(lesson);
  return kind === 'problem' || kind === 'reconnecting';
}

function isOf(filter: Filter, lesson: Lesson): boolean {
  if (lesson.state === 'removed') return false;
  if (filter === 'live') return lesson.state === 'live';
  if (filter === 'problems') return isTroubled(lesson);
  if (filter === 'offline') return lesson.state === 'offline' || lesson.state === 'ended';
  return true;
}

/** Problems first, then what is live, then what was, then the rest. */
const RANKS: Record<Exclude<Kind, 'old'>, number> = {
  problem: 0,
  reconnecting: 0,
  live: 1,
  starting: 1,
  ended: 2,
  offline: 3,
  removed: 3,
};

const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

/** The name for people; classes made without one have that of their address. */
export const nameOf = (lesson: Lesson): string => lesson.name || lesson.class;

const plain = (text: string): string =>
  text
    .normalize('NFD')
    .replace(/\p{Diacritic}/gu, '')
    .toLowerCase();

/** The classes that are asked for, in the order in which they are shown. */
export function arrange(lessons: Iterable<Lesson>, query: string, filter: Filter): string[] {
  const wanted = plain(query.trim());
  const isWanted = (lesson: Lesson): boolean =>
    isOf(filter, lesson) && `${plain(nameOf(lesson))}\n${plain(lesson.class)}`.includes(wanted);
  return [...lessons]
    .filter(isWanted)
    .map((lesson) => ({ lesson, rank: RANKS[kindOf(lesson)] }))
    .sort((a, b) => a.rank - b.rank || names.compare(nameOf(a.lesson), nameOf(b.lesson)))
    .map(({ lesson }) => lesson.class);
}

/** The same while nothing may jump: what is shown stays where it is, and what is new comes last. */
export function keepPlaces(shown: readonly string[], next: readonly string[], isKnown: Has): string[] {
  const places = new Set(shown);
  return [...shown.filter((name) => isKnown.has(name)), ...next.filter((name) => !places.has(name))];
}

interface Has {
  has(name: string): boolean;
}

export function countsOf(lessons: Iterable<Lesson>): Counts {
  const counts: Counts = { all: 0, live: 0, problems: 0, offline: 0, viewers: 0 };
  for (const lesson of lessons) {
    if (!isOf('all', lesson)) continue;
    counts.all += 1;
    if (isOf('live', lesson)) {
      counts.live += 1;
      counts.viewers += lesson.viewers;
    }
    if (isOf('problems', lesson)) counts.problems += 1;
    if (isOf('offline', lesson)) counts.offline += 1;
  }
  return counts;
}
