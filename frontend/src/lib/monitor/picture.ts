/**
 * How often pictures change places. All do at once: each change has the browser look at the whole page, which for every
 * picture by itself would take a multiple of what the pictures take.
 */
const TURN_MS = 700;
/** Some browsers load nothing before they are told to play. */
const NUDGE_MS = 1_000;
/** A picture that is not there by then does not come. */
const LOAD_MAX_MS = 5_000;

/** So many elements hold a picture at a time: Chrome has had 75 of them, and live views need some. */
const HELD_MAX = 70;

let held = 0;
const stacks = new Set<PictureStack>();
let turning: ReturnType<typeof setInterval> | undefined;

function turnAll(): void {
  for (const stack of stacks) stack.turn();
}

/** Two elements that take turns, so that a tile is never black. The one that waits for its turn holds no decoder. */
export class PictureStack {
  #front: HTMLVideoElement;
  #back: HTMLVideoElement;
  /** The one behind: it holds nothing, it loads, it is to come to the front, or it was there until the last turn. */
  #behind: 'empty' | 'loading' | 'loaded' | 'former' = 'empty';
  #loadingSince = 0;
  #next: Blob | undefined;

  constructor(root: HTMLElement) {
    [this.#front, this.#back] = [this.#element(root), this.#element(root)];
    stacks.add(this);
    turning ??= setInterval(turnAll, TURN_MS);
  }

  show(blob: Blob): void {
    this.#next = blob;
    // The first one waits for nobody.
    if (this.#front.src === '' && this.#behind === 'empty') this.#load();
  }

  /** One step: an element that has drawn its picture covers the former one until the next step. */
  turn(): void {
    if (this.#behind === 'former') this.#empty();
    else if (this.#behind === 'loaded') this.#swap();
    else if (this.#behind === 'loading') this.#urge();
    if (this.#behind === 'empty') this.#load();
  }

  /** Lets go of everything. */
  close(): void {
    stacks.delete(this);
    if (stacks.size === 0) {
      clearInterval(turning);
      turning = undefined;
    }
    for (const video of [this.#front, this.#back]) {
      unload(video);
      video.remove();
    }
  }

  #load(): void {
    if (this.#next === undefined || held >= HELD_MAX) return;
    held += 1;
    this.#behind = 'loading';
    this.#loadingSince = performance.now();
    this.#back.src = URL.createObjectURL(this.#next);
    this.#next = undefined;
  }

  #onLoaded(video: HTMLVideoElement): void {
    if (video !== this.#back || this.#behind !== 'loading') return;
    this.#behind = 'loaded';
    if (this.#front.src === '') this.#swap();
  }

  #onFailed(video: HTMLVideoElement): void {
    if (video === this.#back && this.#behind === 'loading') this.#empty();
  }

  #urge(): void {
    const tookMs = performance.now() - this.#loadingSince;
    if (tookMs > LOAD_MAX_MS) this.#empty();
    else if (tookMs > NUDGE_MS) this.#back.play().catch(() => undefined);
  }

  #swap(): void {
    [this.#front, this.#back] = [this.#back, this.#front];
    this.#front.style.zIndex = '1';
    this.#back.style.zIndex = '0';
    this.#behind = 'former';
  }

  #empty(): void {
    unload(this.#back);
    this.#behind = 'empty';
  }

  #element(root: HTMLElement): HTMLVideoElement {
    const video = document.createElement('video');
    Object.assign(video, { muted: true, playsInline: true, preload: 'auto', disablePictureInPicture: true });
    video.setAttribute('muted', '');
    video.setAttribute('disableremoteplayback', '');
    video.addEventListener('loadeddata', () => this.#onLoaded(video));
    video.addEventListener('error', () => this.#onFailed(video));
    root.append(video);
    return video;
  }
}

function unload(video: HTMLVideoElement): void {
  const url = video.src;
  if (url === '') return;
  held -= 1;
  video.removeAttribute('src');
  video.load();
  URL.revokeObjectURL(url);
}
