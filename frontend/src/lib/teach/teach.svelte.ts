import type { Lesson } from '../api/events';
import { Refused } from '../api/request';
import { WatchController } from '../watch.svelte';
import { Backoff } from '../whep/backoff';
import { Sightings, type Seen } from './health';
import { forgetKey, keepKey, readKey, recallKey, takeKey } from './key';
import { preferredServer, publishInfo, replaceKey, type PublishInfo } from './publish';
import { standOf } from './stand';

/** What is wrong with the key that was entered. */
export type KeyError = 'empty' | 'noClass' | 'wrong' | 'void' | 'often' | 'unreachable';
/** How far a new key is. */
export type Replacing = 'no' | 'asked' | 'busy' | 'done' | 'failed' | 'unknown';
/** Where a key comes from. */
type Origin = 'form' | 'link' | 'kept';

/** A server that has not said anything by then does not answer. */
const LOST_MS = 5_000;

/** Teaching one class: the key, what an app needs, and what arrives of the lesson. */
export class TeachController {
  phase = $state<'opening' | 'key' | 'checking' | 'open'>('opening');
  keyError = $state<KeyError | undefined>();
  key = $state('');
  isRemembered = $state(false);
  info = $state.raw<PublishInfo | undefined>();
  /** Where the app is to send to. */
  server = $state<string | undefined>();
  replacing = $state<Replacing>('no');
  /** The key and its code are on the screen. */
  isKeyShown = $state(false);
  isQrShown = $state(false);
  /** What is wrong with what the app sends. */
  health = $state.raw<Seen>({ since: 0, problems: [] });
  readonly watch: WatchController;
  readonly #sightings = new Sightings();
  #retrying = new Backoff(1_000, 10_000);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lostTimer: ReturnType<typeof setTimeout> | undefined;
  #isLost = $state(false);
  /** Grows with each key that is tried. */
  #attempt = 0;
  #isRechecking = false;
  #wasOn = false;

  constructor(readonly className: string) {
    this.watch = new WatchController(className, {
      streamKey: () => this.key,
      onLesson: (lesson) => this.#onLesson(lesson),
      onRefused: () => void this.#recheck(),
    });
  }

  readonly #silentSince = $derived(
    this.health.problems.find((problem) => problem.code === 'nothing_comes')?.since,
  );
  readonly stand = $derived.by(() =>
    standOf({
      lesson: this.watch.lesson,
      isFresh: this.watch.isFresh,
      end: this.watch.end,
      skewMs: this.watch.skewMs,
      heardAt: this.watch.heardAt,
      isLost: this.#isLost,
      silentSince: this.#silentSince,
    }),
  );
  /** There is a picture or sound, as far as was heard. */
  readonly isOn = $derived.by(() => this.watch.lesson?.state === 'live');
  readonly isSilent = $derived(this.#silentSince !== undefined);
  /** Who watches besides this page, which is counted as well while it shows the picture. */
  readonly students = $derived.by(() => {
    const { viewers, state } = this.watch;
    return viewers === undefined ? undefined : Math.max(0, viewers - (state === 'live' ? 1 : 0));
  });

  /** With the key of the link, or the one that is kept. */
  start(): void {
    const ofLink = takeKey();
    if (ofLink !== undefined) {
      this.isRemembered = recallKey(this.className)?.isRemembered === true;
      void this.#open(ofLink, 'link');
      return;
    }
    const kept = recallKey(this.className);
    this.isRemembered = kept?.isRemembered === true;
    if (kept === undefined) this.phase = 'key';
    else void this.#open(kept.key, 'kept');
  }

  /** A link with another key was opened in the same tab. */
  onFragment(): void {
    const key = takeKey();
    if (key === undefined || key === this.key) return;
    this.stop();
    void this.#open(key, 'link');
  }

  stop(): void {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#lostTimer);
    this.watch.stop();
  }

  enter(entered: string): void {
    if (this.phase === 'checking') return;
    const key = readKey(entered);
    if (key === undefined) this.keyError = entered.trim() === '' ? 'empty' : 'wrong';
    else void this.#open(key, 'form');
  }

  remember(isRemembered: boolean): void {
    this.isRemembered = isRemembered;
    if (this.phase === 'open') this.#keep();
  }

  /** Leaves the class on this device. */
  forget(): void {
    this.stop();
    forgetKey(this.className);
    this.#askForKey(undefined);
    this.isRemembered = false;
  }

  /** Makes another key; whoever publishes with this one is cut off. */
  async replace(): Promise<void> {
    if (this.replacing === 'busy') return;
    this.replacing = 'busy';
    try {
      this.key = await replaceKey(this.className, this.key);
      this.#keep();
      this.isKeyShown = true;
      this.replacing = 'done';
    } catch (error) {
      this.replacing = error instanceof Refused ? 'failed' : 'unknown';
      if (error instanceof Refused && error.status === 403) void this.#recheck();
    }
  }

  async #open(key: string, origin: Origin): Promise<void> {
    const attempt = ++this.#attempt;
    this.phase = origin === 'form' ? 'checking' : 'opening';
    const found = await this.#ask(key);
    if (attempt !== this.#attempt) return;
    if (found instanceof Refused && found.status === 403)
      return this.#refuse(origin === 'kept' ? 'void' : 'wrong');
    if (found instanceof Error && origin === 'form') {
      const isOften = found instanceof Refused && found.status === 429;
      return this.#refuse(isOften ? 'often' : 'unreachable');
    }
    this.key = key;
    this.keyError = undefined;
    this.#keep();
    this.phase = 'open';
    this.#isLost = found instanceof Error && !(found instanceof Refused);
    this.#lostTimer = setTimeout(() => (this.#isLost = true), LOST_MS);
    this.watch.follow();
    this.#learn(found);
  }

  async #ask(key: string): Promise<PublishInfo | Error> {
    return publishInfo(this.className, key).catch((error: unknown) =>
      error instanceof Error ? error : new Error(String(error)),
    );
  }

  /** What an app needs; it is asked for until it is known. */
  #learn(found: PublishInfo | Error): void {
    if (!(found instanceof Error)) {
      this.info = found;
      this.server = found.servers.find((server) => server === this.server) ?? preferredServer(found.servers);
      if (this.watch.title === this.className) this.watch.title = found.name;
      return;
    }
    const attempt = this.#attempt;
    const waitMs = this.#retrying.next(found instanceof Refused ? found.retryAfterMs : undefined);
    this.#timer = setTimeout(() => {
      void this.#ask(this.key).then((again) => {
        if (attempt !== this.#attempt) return;
        if (again instanceof Refused && again.status === 403) this.#refuse('void');
        else this.#learn(again);
      });
    }, waitMs);
  }

  #onLesson(lesson: Lesson): void {
    const wasOn = this.#wasOn;
    this.#wasOn = lesson.state === 'live';
    this.health = this.#sightings.look(lesson, Date.now());
    if (!this.#wasOn || wasOn) return;
    // The app is connected: nobody has to see the key any more.
    this.isKeyShown = false;
    this.isQrShown = false;
    this.replacing = 'no';
  }

  /** The key was refused: another may have taken its place, here or elsewhere, or the class is gone. */
  async #recheck(): Promise<void> {
    if (this.phase !== 'open' || this.#isRechecking) return;
    if (this.watch.lesson?.state === 'removed') return this.stop();
    this.#isRechecking = true;
    const key = this.key;
    const found = await this.#ask(key);
    this.#isRechecking = false;
    if (this.key !== key || this.phase !== 'open' || this.replacing === 'busy') return;
    if (found instanceof Refused && found.status === 403) this.#refuse('void');
  }

  #refuse(error: KeyError): void {
    this.stop();
    if (error === 'void' || error === 'wrong') forgetKey(this.className);
    this.#askForKey(error);
  }

  #askForKey(error: KeyError | undefined): void {
    this.key = '';
    this.isKeyShown = false;
    this.isQrShown = false;
    this.replacing = 'no';
    this.keyError = error;
    this.phase = 'key';
  }

  #keep(): void {
    keepKey(this.className, { key: this.key, isRemembered: this.isRemembered });
  }
}
