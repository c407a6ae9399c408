import { endpoint, ownUserId, requestToken, TokenRefused, type Token } from './api/token';
import { AccessDenied, Player, type Access, type Reason, type State } from './whep/player';
import type { Stats } from './whep/stats';

/** A token is renewed when this much of its life is left. */
const TOKEN_SPARE_MS = 600_000;

/** Watching one class: the player, and what the page shows of it. */
export class WatchController {
  state = $state<State>('starting');
  reason = $state<Reason | undefined>();
  stats = $state<Stats | undefined>();
  stream = $state<MediaStream | undefined>();
  latency = $state<'smooth' | 'low'>('smooth');
  isAudioOnly = $derived(
    this.stats !== undefined && this.stats.audioPackets > 100 && this.stats.frames === 0,
  );
  needsPin = $derived(this.state === 'denied' && this.reason === 'pin');
  readonly player: Player;
  #token: (Token & { until: number }) | undefined;
  #pin: string | undefined;

  constructor(readonly className: string) {
    this.player = new Player((isRefused) => this.#access(isRefused), {
      onState: (state, reason) => {
        this.state = state;
        this.reason = reason;
      },
      onStream: (stream) => {
        this.stream = stream;
        this.#setBuffer();
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
    this.player.stop();
  }

  usePin(pin: string): void {
    this.#pin = pin;
    this.player.reconnect();
  }

  /** The server sends the request for no delay in every packet, so a change needs a new session. */
  setLatency(latency: 'smooth' | 'low'): void {
    if (latency === this.latency) return;
    this.latency = latency;
    this.player.reconnect();
  }

  #setBuffer(): void {
    for (const receiver of this.player.peerConnection?.getReceivers() ?? []) {
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = this.latency === 'low' ? 0 : null;
    }
  }

  async #access(isRefused: boolean): Promise<Access> {
    if (this.#token === undefined || isRefused || Date.now() > this.#token.until) {
      try {
        const token = await requestToken(this.className, ownUserId(localStorage), this.#pin);
        this.#token = { ...token, until: Date.now() + token.expires_in * 1000 - TOKEN_SPARE_MS };
      } catch (error) {
        if (error instanceof TokenRefused && error.status === 404) throw new AccessDenied('unknown_class');
        if (error instanceof TokenRefused && error.status === 401) throw new AccessDenied('pin');
        if (error instanceof TokenRefused && error.status === 403) throw new AccessDenied('forbidden');
        throw error;
      }
    }
    return { url: endpoint(this.#token.webrtc_url, this.latency), token: this.#token.token };
  }
}
