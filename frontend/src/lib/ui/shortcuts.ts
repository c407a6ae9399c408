/** What a key does. */
export type Action = 'play' | 'mute' | 'louder' | 'quieter' | 'fullScreen' | 'pictureInPicture' | 'stats';

const ACTIONS: Readonly<Record<string, Action>> = {
  ' ': 'play',
  k: 'play',
  m: 'mute',
  f: 'fullScreen',
  p: 'pictureInPicture',
  i: 'stats',
  arrowup: 'louder',
  arrowdown: 'quieter',
};

/** Elements that take all keys, and those that take these. */
const TAKES_ALL = 'input:not([type=range], [type=checkbox]), select, textarea';
const TAKES_SPACE = 'button, a, summary, input';
const TAKES_ARROWS = 'input';

/** What the key that was pressed asks of the player, unless the element that has the focus takes it. */
export function actionOf(event: KeyboardEvent): Action | undefined {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return undefined;
  const action = ACTIONS[event.key.toLowerCase()];
  const target = event.target instanceof Element ? event.target : document.body;
  const isVolume = action === 'louder' || action === 'quieter';
  if (target.matches(TAKES_ALL)) return undefined;
  if (event.key === ' ' && target.matches(TAKES_SPACE)) return undefined;
  if (isVolume && (target.matches(TAKES_ARROWS) || scrolls())) return undefined;
  return event.repeat && !isVolume ? undefined : action;
}

/** The arrows move a page that is higher than the window. */
function scrolls(): boolean {
  const { scrollHeight, clientHeight } = document.documentElement;
  return scrollHeight > clientHeight;
}
