import { SvelteMap } from 'svelte/reactivity';
import type { Lesson } from '../api/events';
import { endpoint, nodeOf, ownUserId, type Token } from '../api/token';
import { isSilent } from '../scene';
import { Player } from '../whep/player';
import type { Reason } from '../whep/reason';
import type { Stats } from '../whep/stats';
import type { Access, Complaint, State } from '../whep/types';
import { monitorToken } from './token';

/** So many play at once: each takes a decoder and a part of the network. */
export const PLAY_MAX = 9;
/** A token is renewed when this much of its life is left. */
const TOKEN_SPARE_MS = 600_000;

/** One lesson that plays. */
export class LiveView {
  state = $state<State>('starting');
  reason = $state<Reason | undefined>();
  stream = $state.raw<MediaStream | undefined>();
  stats = $state.raw<Stats | undefined>();
  /** Pictures are decoded. */
  readonly hasPicture = $derived(this.state === 'live' && (this.stats?.frames ?? 0) > 0);
  readonly #player: Player;
  #token: (Token & { until: number; node: string | undefined }) | undefined;
  readonly #userId = ownUserId(() => localStorage);

  constructor(
    readonly name: string,
    private readonly secret: () => string | undefined,
  ) {
    this.#player = new Player((complaint) => this.#access(complaint), {
      onState: (state, reason) => {
        this.state = state;
        this.reason = reason;
      },
      onStream: (stream) => (this.stream = stream),
      onStats: (stats) => (this.stats = stats),
      onMoved: (url) => {
        if (this.#token !== undefined) this.#token = { ...this.#token, webrtc_url: url, node: undefined };
      },
      onStill: () => undefined,
    });
    this.#player.start();
  }

  /** What the server says of the lesson; nothing if it cannot be heard. */
  expect(lesson: Lesson | undefined): void {
    this.#player.expect(lesson && { isLive: lesson.state === 'live', isSilent: isSilent(lesson) });
  }

  stop(): void {
    this.#player.stop();
  }

  async #access({ isTokenRefused, isNodeLost }: Complaint): Promise<Access> {
    const isOld = isTokenRefused || isNodeLost;
    if (this.#token === undefined || isOld || Date.now() > this.#token.until) {
      const token = await monitorToken(
        this.name,
        this.#userId,
        this.secret(),
        isNodeLost ? this.#token?.node : undefined,
      );
      const until = Date.now() + token.expires_in * 1000 - TOKEN_SPARE_MS;
      this.#token = { ...token, until, node: nodeOf(token) };
    }
    return { url: endpoint(this.#token.webrtc_url, 'smooth'), token: this.#token.token };
  }
}

/** The lessons that play on the wall: those that are pinned, and the one that is open. */
export class LiveViews {
  pins = $state.raw<readonly string[]>([]);
  opened = $state<string | undefined>();
  readonly views = new SvelteMap<string, LiveView>();

  constructor(
    private readonly secret: () => string | undefined,
    private readonly lessonOf: (name: string) => Lesson | undefined,
  ) {}

  open(name: string | undefined): void {
    this.opened = name;
    this.#play();
  }

  /** False if as many are pinned as may be. */
  togglePin(name: string): boolean {
    const isPinned = this.pins.includes(name);
    if (!isPinned && this.pins.length >= PLAY_MAX) return false;
    this.pins = isPinned ? this.pins.filter((pin) => pin !== name) : [...this.pins, name];
    this.#play();
    return true;
  }

  /** There is no such class any more. */
  forget(name: string): void {
    if (this.pins.includes(name)) this.togglePin(name);
  }

  /** Tells the players what the server says of their lessons. */
  expect(name: string): void {
    this.views.get(name)?.expect(this.lessonOf(name));
  }

  expectAll(): void {
    for (const name of this.views.keys()) this.expect(name);
  }

  stop(): void {
    this.pins = [];
    this.open(undefined);
  }

  /** The one that is open goes first: behind it a pinned one may have to wait. */
  #play(): void {
    const first = this.opened === undefined ? [] : [this.opened];
    const wanted = [...first, ...this.pins.filter((name) => name !== this.opened)].slice(0, PLAY_MAX);
    for (const [name, view] of [...this.views]) {
      if (wanted.includes(name)) continue;
      view.stop();
      this.views.delete(name);
    }
    for (const name of wanted) {
      if (this.views.has(name)) continue;
      this.views.set(name, new LiveView(name, this.secret));
      this.expect(name);
    }
  }
}
