/** Without a movement for so long the pointer is not to be seen. */
const POINTER_MS = 3_000;

interface Prefixed {
  webkitRequestFullscreen?: () => void;
}

/** A screen on a wall: larger text, full screen on a click, and awake while it is seen. What it returns ends that. */
export function kioskOf(root: HTMLElement): () => void {
  const left = new AbortController();
  const { signal } = left;
  let lock: WakeLockSentinel | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const stayAwake = (): void => {
    if (document.hidden || !('wakeLock' in navigator)) return;
    navigator.wakeLock.request('screen').then(
      (taken) => {
        if (signal.aborted) void taken.release();
        else lock = taken;
      },
      // It is asked for again when the page is seen again.
      () => undefined,
    );
  };
  const fillScreen = (): void => {
    stayAwake();
    if (document.fullscreenElement !== null) return;
    if (document.fullscreenEnabled) root.requestFullscreen().catch(() => undefined);
    else (root as Prefixed).webkitRequestFullscreen?.();
  };
  const hidePointer = (): void => {
    root.style.cursor = '';
    clearTimeout(timer);
    timer = setTimeout(() => (root.style.cursor = 'none'), POINTER_MS);
  };

  // Everything is in rem.
  root.style.fontSize = '125%';
  root.addEventListener('click', fillScreen, { signal });
  root.addEventListener('pointermove', hidePointer, { signal });
  document.addEventListener('visibilitychange', stayAwake, { signal });
  stayAwake();
  return () => {
    left.abort();
    clearTimeout(timer);
    root.style.fontSize = root.style.cursor = '';
    void lock?.release();
  };
}
