import type { SceneKind } from '../scene';

/** Where the scene is: nowhere to be seen, in a corner of the last picture, or in all the room there is. */
export type Place = 'nowhere' | 'corner' | 'everywhere';

/** While these last, the picture may come back at any moment. */
const PASSING: ReadonlySet<SceneKind> = new Set(['teacher-away', 'trouble', 'connecting', 'starting']);

export function placeOf(kind: SceneKind, isPictureKept: boolean, hasPicture: boolean): Place {
  if (kind === 'live') return hasPicture ? 'nowhere' : 'everywhere';
  return isPictureKept && PASSING.has(kind) ? 'corner' : 'everywhere';
}
