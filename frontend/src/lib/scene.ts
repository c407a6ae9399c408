import type { Lesson } from './api/events';
import { strings } from '../strings';
import type { Reason } from './whep/reason';
import type { Pictureless } from './whep/stats';
import type { State, Still } from './whep/types';

/** What the page shows instead of a moving picture, or over it. */
export type SceneKind =
  /** Nobody teaches yet. */
  | 'waiting'
  /** The teacher's app is there, its first picture is not. */
  | 'starting'
  /** This page is on its way to the picture. */
  | 'connecting'
  /** Picture or sound play. */
  | 'live'
  /** The teacher's connection is gone, or the app sends nothing; the server waits for it. */
  | 'teacher-away'
  /** The teacher has ended the lesson, or has not come back. */
  | 'ended'
  /** Something between this page and the server is wrong; the page tries again by itself. */
  | 'trouble'
  /** Somebody must do something: enter a PIN, take another link. */
  | 'denied';

export interface Scene {
  kind: SceneKind;
  /** One sentence; it is what is announced, once for each change. */
  title: string;
  /** What can be done about it, or why; not announced when it alone changes. */
  detail: string | undefined;
  /** Since when, for a clock that counts; milliseconds as `Date.now()` has them. */
  since: number | undefined;
}

/** Everything that is known. */
export interface Known {
  state: State;
  reason: Reason | undefined;
  still: Still;
  pictureless: Pictureless | undefined;
  /** What the server said of the lesson last. */
  lesson: Lesson | undefined;
  /** Whether it still says so: it can be heard. */
  isFresh: boolean;
  /** How a lesson that is no more came to its end, as far as this page has seen it. */
  end: 'ended' | 'away' | undefined;
  /** What the server's clock is behind this one. */
  skewMs: number;
  /** Pictures or sound come, although the server has been saying something else for a while. */
  playsOn: boolean;
}

/** The teacher's app is there and sends nothing. */
export const isSilent = (lesson: Lesson): boolean =>
  lesson.problems.some(({ code }) => code === 'nothing_comes');

/** What to say, and only what is true. Of the lesson the server knows, of the way to it this page does. */
export function sceneOf(known: Known): Scene {
  const { state, reason, lesson, isFresh } = known;
  const say = (kind: SceneKind, title: string, detail?: string, since?: number): Scene => ({
    kind,
    title,
    detail,
    since,
  });
  if (state === 'denied')
    return say('denied', reason === undefined ? strings.states.denied : strings.reasons[reason]);
  if (lesson === undefined || !isFresh || known.playsOn) return ofWay(known);
  const since = lesson.since_ms === null ? undefined : lesson.since_ms + known.skewMs;
  switch (lesson.state) {
    case 'ended':
      return say('ended', strings.scenes.ended, strings.scenes.endedDetail, since);
    case 'reconnecting':
      return say('teacher-away', strings.scenes.away, strings.scenes.awayDetail, since);
    case 'starting':
      return say('starting', strings.scenes.starting);
    case 'removed':
      // Whether there is a class of this name is asked now.
      return say('connecting', strings.states.connecting);
    case 'offline':
      if (known.end === 'ended') return say('ended', strings.scenes.ended, strings.scenes.endedDetail);
      if (known.end === 'away') return say('ended', strings.scenes.gone, strings.scenes.goneDetail);
      return say('waiting', strings.states.waiting);
    case 'live':
      if (isSilent(lesson)) return say('teacher-away', strings.scenes.silent, strings.scenes.awayDetail);
      return ofWay(known);
  }
}

/** What the way to the picture does. */
function ofWay({ state, reason, still, pictureless, isFresh }: Known): Scene {
  const say = (kind: SceneKind, title: string): Scene => ({
    kind,
    title,
    detail: undefined,
    since: undefined,
  });
  switch (state) {
    case 'live':
      if (still === 'unreachable') return say('trouble', strings.scenes.unreachable);
      if (still === 'silent') return say('trouble', strings.scenes.still);
      return say('live', pictureless === undefined ? strings.states.live : strings.pictureless[pictureless]);
    case 'reconnecting':
      return say('trouble', reason === undefined ? strings.states.reconnecting : strings.reasons[reason]);
    case 'waiting':
      // The node does not know yet what the coordinator does.
      return isFresh ? say('connecting', strings.states.connecting) : say('waiting', strings.states.waiting);
    case 'starting':
      return say('connecting', strings.states.starting);
    default:
      return say('connecting', strings.states.connecting);
  }
}
