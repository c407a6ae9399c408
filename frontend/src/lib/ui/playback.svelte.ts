import { canFillScreen, FULL_SCREEN_EVENTS, isFullScreen, toggleFullScreen } from './fullscreen';
import { recall, remember } from './remembered';

/** How loud it is after the sound is switched on that was turned down to nothing. */
const AUDIBLE = 0.5;

const isRefusal = (error: unknown): boolean =>
  error instanceof DOMException && error.name === 'NotAllowedError';

/** The browser refuses, and everything stays as it is. */
const stays = (): void => undefined;

/** The video element as the page shows and moves it. */
export class Playback {
  isMuted = $state(false);
  volume = $state(1);
  isPaused = $state(false);
  /** The browser plays only without sound until somebody touches the page. */
  isSilenced = $state(false);
  /** It does not even play without sound. */
  isBlocked = $state(false);
  hasPicture = $state(false);
  isFullScreen = $state(false);
  canFillScreen = $state(false);
  isFloating = $state(false);
  readonly canFloat = document.pictureInPictureEnabled === true;
  #video!: HTMLVideoElement;
  #player!: HTMLElement;
  #isPausedByUser = false;

  /** Takes over the elements; what it returns lets them go. */
  attach(video: HTMLVideoElement, player: HTMLElement): () => void {
    this.#video = video;
    this.#player = player;
    video.muted = recall('muted') === 'true';
    const level = Number(recall('volume') ?? 1);
    video.volume = level > 0 && level <= 1 ? level : 1;
    this.#readSound();
    this.canFillScreen = canFillScreen(player, video);

    const left = new AbortController();
    const on = (target: EventTarget, types: readonly string[], act: () => void): void => {
      for (const type of types) target.addEventListener(type, act, { signal: left.signal });
    };
    on(video, ['volumechange'], () => this.#readSound());
    on(video, ['play'], () => (this.isPaused = false));
    on(video, ['pause'], () => (this.isPaused = true));
    on(video, ['loadedmetadata', 'resize'], () => (this.hasPicture = video.videoWidth > 0));
    on(video, ['enterpictureinpicture'], () => (this.isFloating = true));
    on(video, ['leavepictureinpicture'], () => (this.isFloating = false));
    on(document, FULL_SCREEN_EVENTS, () => (this.isFullScreen = isFullScreen()));
    return () => left.abort();
  }

  show(stream: MediaStream): void {
    this.#video.srcObject = stream;
    if (!this.#isPausedByUser) void this.play();
  }

  /** With sound if the browser lets it, else without, else not before somebody touches the page. */
  async play(): Promise<void> {
    this.#isPausedByUser = false;
    try {
      await this.#video.play();
      this.isBlocked = false;
    } catch (error) {
      // Anything else is another stream that has taken its place.
      if (!isRefusal(error)) return;
      if (this.#video.muted) {
        this.isBlocked = true;
        return;
      }
      this.#video.muted = true;
      this.isSilenced = true;
      await this.play();
    }
  }

  togglePlay(): void {
    if (this.#video.paused) {
      void this.play();
      return;
    }
    this.#isPausedByUser = true;
    this.#video.pause();
  }

  /** Somebody has touched the page and wants to hear. */
  unmute(): void {
    this.#setMuted(false);
    if (this.#video.volume === 0) this.#video.volume = AUDIBLE;
    if (!this.#isPausedByUser) void this.play();
  }

  toggleMute(): void {
    if (this.#video.muted) this.unmute();
    else this.#setMuted(true);
  }

  setVolume(level: number): void {
    this.#video.volume = Math.min(1, Math.max(0, level));
    remember('volume', String(this.#video.volume));
    this.#setMuted(this.#video.volume === 0);
  }

  toggleFloating(): void {
    const isOff = document.pictureInPictureElement === null;
    const asked = isOff ? this.#video.requestPictureInPicture() : document.exitPictureInPicture();
    void (asked as Promise<unknown>).catch(stays);
  }

  toggleFullScreen(): void {
    void toggleFullScreen(this.#player, this.#video).catch(stays);
  }

  #setMuted(isMuted: boolean): void {
    this.isSilenced = false;
    this.#video.muted = isMuted;
    // The event comes later, and a second key may come before it.
    this.#readSound();
    remember('muted', String(isMuted));
  }

  #readSound(): void {
    this.isMuted = this.#video.muted;
    this.volume = this.#video.volume;
  }
}
