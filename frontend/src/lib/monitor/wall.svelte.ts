import { untrack } from 'svelte';
import { SvelteMap } from 'svelte/reactivity';
import type { Lesson } from '../api/events';
import { arrange, countsOf, keepPlaces, type Filter } from './face';
import { WallFeed } from './feed';
import { LiveViews } from './live.svelte';
import { News } from './news';
import { forgetSecret, headersOf, isUsable, keepSecret, recallSecret, takeSecret } from './secret';
import { Snapshots } from './snapshots';
import { strings } from './strings';

/** How often the time in minutes is looked at. */
const CLOCK_MS = 10_000;
/** A pointer that lies in the wall and does nothing holds it no longer than this. */
const HELD_MS = 60_000;

/** What is wrong with the secret that was entered. */
export type SecretError = 'empty' | 'wrong' | 'noServer';

/** The wall: every class, what the server says of it, and what is shown. */
export class Wall {
  /** `secret`: one is asked for. */
  phase = $state<'asking' | 'secret' | 'open'>('asking');
  secretError = $state<SecretError | undefined>();
  isChecking = $state(false);
  readonly lessons = new SvelteMap<string, Lesson>();
  /** What is shown is what the server says now. */
  isFresh = $state(false);
  /** It has failed to answer, or there are too many pages. */
  trouble = $state<'no' | 'silent' | 'crowded'>('no');
  /** When something was heard last. */
  heardAt = 0;
  skewMs = $state(0);
  now = $state(Date.now());
  query = $state('');
  filter = $state<Filter>('all');
  /** The classes that are shown, in order. */
  shown = $state.raw<readonly string[]>([]);
  /** What a screen reader is told. */
  said = $state('');
  /** What went wrong with a pin, in words. */
  notice = $state('');
  hasSecret = $state(false);
  readonly counts = $derived(countsOf(this.lessons.values()));
  readonly summary = $derived.by(() => {
    const { live, all, problems, viewers } = this.counts;
    const summary = strings.summary(live, all, problems, viewers);
    return this.isFresh ? summary : strings.summaryOld(summary);
  });
  readonly snapshots = new Snapshots(() => this.#secret);
  readonly live = new LiveViews(
    () => this.#secret,
    (name) => (this.isFresh ? this.lessons.get(name) : undefined),
  );
  #secret: string | undefined;
  #isHeld = $state(false);
  #arranged = '';
  #holdTimer: ReturnType<typeof setTimeout> | undefined;
  #clock: ReturnType<typeof setInterval> | undefined;
  readonly #news = new News((text) => (this.said = text));
  readonly #feed = new WallFeed({
    onAll: (lessons, skewMs) => this.#onAll(lessons, skewMs),
    onLesson: (lesson, skewMs) => this.#onLesson(lesson, skewMs),
    onFresh: (isFresh) => {
      this.isFresh = isFresh;
      if (isFresh) this.trouble = 'no';
      this.live.expectAll();
    },
    onSign: () => (this.heardAt = Date.now()),
    onDenied: () => this.#askForSecret(this.#secret === undefined ? undefined : 'wrong'),
    onFailed: (isCrowded) => (this.trouble = isCrowded ? 'crowded' : 'silent'),
  });

  start(): void {
    const ofLink = takeSecret();
    if (ofLink !== undefined) keepSecret(ofLink, false);
    this.#use(ofLink ?? recallSecret());
    this.#clock = setInterval(() => (this.now = Date.now()), CLOCK_MS);
  }

  stop(): void {
    clearInterval(this.#clock);
    clearTimeout(this.#holdTimer);
    this.#feed.stop();
    this.#news.stop();
    this.live.stop();
    this.snapshots.pause(true);
  }

  /** A link with another secret was opened in the same tab. */
  onFragment(): void {
    const secret = takeSecret();
    if (secret === undefined) return;
    keepSecret(secret, false);
    this.#use(secret);
  }

  /** The page is seen, or it is not. */
  onVisible(isVisible: boolean): void {
    this.snapshots.pause(!isVisible);
    if (isVisible) this.retryNow();
  }

  retryNow(): void {
    this.now = Date.now();
    this.#feed.retryNow();
  }

  askForSecret(): void {
    this.#askForSecret(undefined);
  }

  /** Tries a secret before it is kept. */
  async enter(entered: string, isForDevice: boolean): Promise<void> {
    const secret = entered.trim();
    if (secret === '' || !isUsable(secret)) {
      this.secretError = secret === '' ? 'empty' : 'wrong';
      return;
    }
    this.isChecking = true;
    const status = await fetch('/api/v1/streams', { headers: headersOf(secret) }).then(
      ({ status }) => status,
      () => 0,
    );
    this.isChecking = false;
    if (status === 401 || status === 403) this.secretError = 'wrong';
    else if (status !== 200) this.secretError = 'noServer';
    else {
      keepSecret(secret, isForDevice);
      this.#use(secret);
    }
  }

  togglePin(name: string): void {
    this.notice = this.live.togglePin(name) ? '' : strings.pinsFull(this.live.pins.length);
  }

  /** Somebody points at the wall, or moves in it by keyboard: nothing jumps. */
  hold(isHeld: boolean): void {
    clearTimeout(this.#holdTimer);
    this.#isHeld = isHeld;
  }

  /** The same for a pointer, which may only have been left there. */
  holdForPointer(): void {
    this.hold(true);
    this.#holdTimer = setTimeout(() => (this.#isHeld = false), HELD_MS);
  }

  /** Brings what is shown up to date; for an effect. */
  arrange(): void {
    const asked = `${this.filter} ${this.query}`;
    const next = arrange(this.lessons.values(), this.query, this.filter);
    const isHeld = this.#isHeld && asked === this.#arranged;
    this.#arranged = asked;
    untrack(() => {
      if (!isHeld) this.#sweep();
      const shown = isHeld ? keepPlaces(this.shown, next, this.lessons) : next;
      if (shown.join() !== this.shown.join()) this.shown = shown;
    });
  }

  #use(secret: string | undefined): void {
    this.#secret = secret;
    this.hasSecret = secret !== undefined;
    this.phase = this.lessons.size > 0 ? 'open' : 'asking';
    this.#feed.start(secret);
  }

  #askForSecret(error: SecretError | undefined): void {
    this.#feed.stop();
    this.live.stop();
    if (error === 'wrong') forgetSecret();
    this.secretError = error;
    this.phase = 'secret';
  }

  #onAll(lessons: readonly Lesson[], skewMs: number): void {
    this.phase = 'open';
    this.secretError = undefined;
    const told = lessons.map((lesson) => lesson.class);
    for (const lesson of lessons) this.#take(lesson);
    for (const lesson of [...this.lessons.values()]) {
      if (told.includes(lesson.class)) continue;
      // Without the secret nobody is told of classes that have no lesson.
      this.#take({ ...lesson, state: this.hasSecret ? 'removed' : 'offline', viewers: 0, problems: [] });
    }
    this.skewMs = skewMs;
    this.#news.look(this.lessons);
  }

  #onLesson(lesson: Lesson, skewMs: number): void {
    this.#take(lesson);
    // A clock that jitters would have every tile drawn anew.
    if (Math.abs(skewMs - this.skewMs) > 1_000) this.skewMs = skewMs;
    this.live.expect(lesson.class);
    this.#news.look(this.lessons);
  }

  #take(lesson: Lesson): void {
    const before = this.lessons.get(lesson.class);
    if (lesson.state === 'removed') {
      this.live.forget(lesson.class);
      // A name goes with the class.
      if (before !== undefined) this.lessons.set(lesson.class, { ...lesson, name: before.name });
      return;
    }
    this.lessons.set(lesson.class, lesson);
    const isPicture = lesson.state === 'live' && lesson.has_video;
    if (isPicture && !(before?.state === 'live' && before.has_video)) this.snapshots.renew(lesson.class);
  }

  /** Classes that are no more go when nothing holds them. */
  #sweep(): void {
    for (const { class: name, state } of [...this.lessons.values()]) {
      if (state !== 'removed') continue;
      this.lessons.delete(name);
      this.snapshots.forget(name);
    }
  }
}
