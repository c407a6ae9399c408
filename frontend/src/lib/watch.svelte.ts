import { Problems } from './problems.svelte';
import { readPin } from './api/pin';
import { Refused } from './api/request';
import { endpoint, nodeOf, ownUserId, requestToken, type Token } from './api/token';
import { AccessDenied, Player, type Access, type Complaint, type State } from './whep/player';
import type { Reason } from './whep/reason';
import { picturelessOf, type Stats } from './whep/stats';

/** A token is renewed when this much of its life is left. */
const TOKEN_SPARE_MS = 600_000;
/** Until another PIN may be tried, if the server does not say it. */
const PIN_WAIT_MS = 10_000;

const CONTENT: Complaint = { isTokenRefused: false, isNodeLost: false };

/** The server may know of problems: there is a lesson, or may be, and what is wrong is not the way to the server. */
function isLooking(state: State, reason: Reason | undefined): boolean {
  if (state === 'reconnecting') return reason === 'silent' || reason === 'browser';
  return state === 'waiting' || state === 'connecting' || state === 'live';
}

/** Watching one class: the player, and what the page shows of it. */
export class WatchController {
  state = $state<State>('starting');
  reason = $state<Reason | undefined>();
  stats = $state<Stats | undefined>();
  stream = $state<MediaStream | undefined>();
  takesPicture = $state(true);
  /** Where other players watch this class without a token. */
  openUrl = $state<string | undefined>();
  latency = $state<'smooth' | 'low'>('smooth');
  pictureless = $derived(this.stats && picturelessOf(this.stats, this.takesPicture));
  needsPin = $derived(this.state === 'denied' && this.reason?.startsWith('pin_') === true);
  /** Seconds until another PIN may be tried. */
  pinWaitS = $state(0);
  readonly player: Player;
  readonly problems: Problems;
  /** With the node that it leads to, where that is known. */
  #token: (Token & { until: number; node: string | undefined }) | undefined;
  #pin: string | undefined;
  #pinWait: ReturnType<typeof setInterval> | undefined;
  readonly #userId = ownUserId(() => localStorage);

  constructor(readonly className: string) {
    this.problems = new Problems(
      className,
      () => this.#access(CONTENT).then(({ token }) => token),
      () => this.stats,
    );
    this.player = new Player((complaint) => this.#access(complaint), {
      onState: (state, reason) => {
        this.#lookForProblems(isLooking(state, reason));
        this.state = state;
        this.reason = reason;
      },
      onStream: (stream, takesPicture) => {
        this.stream = stream;
        this.takesPicture = takesPicture;
        this.#setBuffer();
      },
      onMoved: (url) => {
        // It names the node that the viewer comes from.
        if (this.#token !== undefined) this.#token = { ...this.#token, webrtc_url: url, node: undefined };
      },
      onStats: (stats) => {
        this.stats = stats;
      },
    });
  }

  start(): void {
    this.player.start();
  }

  stop(): void {
    clearInterval(this.#pinWait);
    this.pinWaitS = 0;
    this.player.stop();
    this.problems.stop();
    this.state = 'starting';
  }

  /** Tries a PIN, unless no class can have it or the server would not look at it yet. */
  usePin(entered: string): void {
    if (this.pinWaitS > 0) return;
    const pin = readPin(entered);
    if (pin === undefined || pin === '') {
      this.reason = pin === '' ? 'pin_needed' : 'pin_unusable';
      return;
    }
    this.#pin = pin;
    this.player.reconnect();
  }

  /** The server sends the request for no delay in every packet, so a change needs a new session. */
  setLatency(latency: 'smooth' | 'low'): void {
    if (latency === this.latency) return;
    this.latency = latency;
    this.player.reconnect();
  }

  /** An app that is refused makes the page wait, and one whose picture no decoder takes makes it seem silent. */
  #lookForProblems(looks: boolean): void {
    const didLook = isLooking(this.state, this.reason);
    if (!looks) this.problems.stop();
    else if (!didLook) this.problems.start();
  }

  #setBuffer(): void {
    for (const receiver of this.player.peerConnection?.getReceivers() ?? []) {
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = this.latency === 'low' ? 0 : null;
    }
  }

  async #access({ isTokenRefused, isNodeLost }: Complaint): Promise<Access> {
    const isOld = isTokenRefused || isNodeLost;
    if (this.#token === undefined || isOld || Date.now() > this.#token.until) {
      const node = this.#token?.node;
      const token = await this.#requestToken(isNodeLost ? { exclude: node } : { hint: node });
      this.openUrl = token.openUrl;
      const until = Date.now() + token.expires_in * 1000 - TOKEN_SPARE_MS;
      this.#token = { ...token, until, node: nodeOf(token) };
    }
    return { url: endpoint(this.#token.webrtc_url, this.latency), token: this.#token.token };
  }

  /** Where no other node is, the one that seemed lost is the best there is. */
  async #requestToken(place: { hint?: string | undefined; exclude?: string | undefined }): Promise<Token> {
    const request = (at: typeof place): Promise<Token> =>
      requestToken(this.className, this.#userId, this.#pin, at);
    const isElsewhere = place.exclude !== undefined;
    try {
      return await request(place).catch((error: unknown) => {
        if (isElsewhere && error instanceof Refused && error.status === 503) return request({});
        throw error;
      });
    } catch (error) {
      throw this.#denied(error) ?? error;
    }
  }

  /** What only a person can change; everything else is tried again. */
  #denied(error: unknown): AccessDenied | undefined {
    if (!(error instanceof Refused)) return undefined;
    const { status, code } = error;
    if (code === 'no_class') return new AccessDenied('unknown_class');
    if (status === 401) return new AccessDenied(code === 'pin_wrong' ? 'pin_wrong' : 'pin_needed');
    if (status === 403) return new AccessDenied('forbidden');
    if (code !== 'pin_attempts') return undefined;
    this.#waitForPin(error.retryAfterMs ?? PIN_WAIT_MS);
    return new AccessDenied('pin_attempts');
  }

  #waitForPin(waitMs: number): void {
    const until = Date.now() + waitMs;
    const look = (): void => {
      this.pinWaitS = Math.max(0, Math.ceil((until - Date.now()) / 1000));
      if (this.pinWaitS > 0) return;
      clearInterval(this.#pinWait);
      if (this.reason === 'pin_attempts') this.reason = 'pin_again';
    };
    clearInterval(this.#pinWait);
    this.#pinWait = setInterval(look, 1000);
    look();
  }
}
