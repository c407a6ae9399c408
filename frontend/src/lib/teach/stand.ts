import type { Lesson } from '../api/events';
import { isSilent } from '../scene';
import { strings } from './strings';

/** Where the teacher's lesson is. */
export type StandKind =
  /** The server has not said anything yet. */
  | 'opening'
  | 'off'
  | 'starting'
  | 'live'
  /** The app is there and sends nothing. */
  | 'silent'
  /** The app is gone without a word, and the class waits for it. */
  | 'away'
  | 'ended'
  /** It was away for too long. */
  | 'gone'
  | 'removed'
  /** The server cannot be heard: nothing that is known need be true any more. */
  | 'unheard';

export interface Stand {
  kind: StandKind;
  title: string;
  detail: string | undefined;
  /** Since when, for a clock that counts; milliseconds as `Date.now()` has them. */
  since: number | undefined;
}

/** Everything that is known. */
export interface Told {
  lesson: Lesson | undefined;
  isFresh: boolean;
  /** How a lesson that is no more came to its end, as far as this page has seen it. */
  end: 'ended' | 'away' | undefined;
  /** What has to be added to the server's times. */
  skewMs: number;
  /** When the server was heard last. */
  heardAt: number | undefined;
  /** It was tried to hear the server, and it does not answer. */
  isLost: boolean;
  /** Since when the app sends nothing. */
  silentSince: number | undefined;
}

export const timeOf = (ms: number): string =>
  new Date(ms).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** The line that says it, and only what is true. */
export function standOf(told: Told): Stand {
  const { lesson, isFresh, skewMs, heardAt } = told;
  const say = (kind: StandKind, since?: number, detail: string | undefined = detailOf(kind)): Stand => ({
    kind,
    title: strings.stands[kind],
    detail,
    since,
  });
  if (lesson?.state === 'removed') return say('removed');
  if (!isFresh) {
    if (lesson !== undefined && heardAt !== undefined)
      return say('unheard', undefined, strings.details.unheard(timeOf(heardAt)));
    return told.isLost ? say('unheard', undefined, strings.details.neverHeard) : say('opening');
  }
  if (lesson === undefined) return say('opening');
  const since = lesson.since_ms === null ? undefined : lesson.since_ms + skewMs;
  switch (lesson.state) {
    case 'live':
      return isSilent(lesson) ? say('silent', told.silentSince) : say('live', since);
    case 'starting':
      return say('starting');
    case 'reconnecting':
      return say('away', since);
    case 'ended':
      return say('ended');
    case 'offline':
      if (told.end === undefined) return say('off');
      return say(told.end === 'ended' ? 'ended' : 'gone');
  }
}

function detailOf(kind: StandKind): string | undefined {
  if (kind === 'opening' || kind === 'live' || kind === 'unheard') return undefined;
  return strings.details[kind];
}
