/** Safari's names before version 16.4; an iPhone fills its screen with a video only. */
interface Prefixed {
  webkitFullscreenElement?: Element | null;
  webkitExitFullscreen?: () => void;
  webkitRequestFullscreen?: () => void;
  webkitEnterFullscreen?: () => void;
}

interface Lockable {
  lock?: (orientation: string) => Promise<void>;
}

const ofDocument = (): Prefixed => document as Prefixed;

export const FULL_SCREEN_EVENTS = ['fullscreenchange', 'webkitfullscreenchange'] as const;

export function isFullScreen(): boolean {
  return (document.fullscreenElement ?? ofDocument().webkitFullscreenElement ?? null) !== null;
}

export function canFillScreen(player: HTMLElement, video: HTMLVideoElement): boolean {
  const { webkitRequestFullscreen } = player as Prefixed;
  const { webkitEnterFullscreen } = video as Prefixed;
  return document.fullscreenEnabled || Boolean(webkitRequestFullscreen ?? webkitEnterFullscreen);
}

/** Rejects if the browser refuses. */
export async function toggleFullScreen(player: HTMLElement, video: HTMLVideoElement): Promise<void> {
  if (isFullScreen()) {
    if (document.fullscreenElement) await document.exitFullscreen();
    else ofDocument().webkitExitFullscreen?.();
    return;
  }
  if (document.fullscreenEnabled) await player.requestFullscreen();
  else if ((player as Prefixed).webkitRequestFullscreen) (player as Prefixed).webkitRequestFullscreen?.();
  else (video as Prefixed).webkitEnterFullscreen?.();
  if (video.videoWidth > video.videoHeight) await turnPhone();
}

/** As people know it of other players; only phones can, and not all. */
async function turnPhone(): Promise<void> {
  const orientation = (screen as { orientation?: Lockable }).orientation;
  await orientation?.lock?.('landscape').catch(() => undefined);
}
