/** The former picture stays below the new one for so long: an element tells of its picture before it has drawn it. */
const OVERLAP_MS = 200;
/** Some browsers load nothing before they are told to play. */
const NUDGE_MS = 1_000;
/** A picture that is not there by then does not come. */
const LOAD_MAX_MS = 5_000;

/** Two elements that take turns, so that a tile is never black. The one that waits for its turn holds no decoder. */
export class PictureStack {
  #front: HTMLVideoElement;
  #back: HTMLVideoElement;
  #isLoading = false;
  #next: Blob | undefined;
  #timers = new Set<ReturnType<typeof setTimeout>>();
  #isClosed = false;

  constructor(root: HTMLElement) {
    [this.#front, this.#back] = [element(root), element(root)];
  }

  show(blob: Blob): void {
    if (this.#isLoading) {
      this.#next = blob;
      return;
    }
    this.#isLoading = true;
    const video = this.#back;
    const end = new AbortController();
    const settle = (isShown: boolean): void => {
      end.abort();
      if (isShown) this.#swap();
      else unload(video);
      this.#after(OVERLAP_MS, () => {
        if (isShown) unload(this.#back);
        this.#isLoading = false;
        const next = this.#next;
        this.#next = undefined;
        if (next !== undefined) this.show(next);
      });
    };
    video.addEventListener('loadeddata', () => settle(true), { signal: end.signal });
    video.addEventListener('error', () => settle(false), { signal: end.signal });
    this.#after(NUDGE_MS, () => {
      if (!end.signal.aborted) video.play().catch(() => undefined);
    });
    this.#after(LOAD_MAX_MS, () => {
      if (!end.signal.aborted) settle(false);
    });
    video.src = URL.createObjectURL(blob);
  }

  /** Lets go of everything. */
  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const video of [this.#front, this.#back]) {
      unload(video);
      video.remove();
    }
  }

  #swap(): void {
    [this.#front, this.#back] = [this.#back, this.#front];
    this.#front.style.zIndex = '1';
    this.#back.style.zIndex = '0';
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (!this.#isClosed) act();
    }, ms);
    this.#timers.add(timer);
  }
}

function element(root: HTMLElement): HTMLVideoElement {
  const video = document.createElement('video');
  Object.assign(video, { muted: true, playsInline: true, preload: 'auto', disablePictureInPicture: true });
  video.setAttribute('muted', '');
  video.setAttribute('disableremoteplayback', '');
  root.append(video);
  return video;
}

function unload(video: HTMLVideoElement): void {
  const url = video.src;
  if (url === '') return;
  video.removeAttribute('src');
  video.load();
  URL.revokeObjectURL(url);
}
