import { Refused, request } from '../api/request';
import { applyRestart, credentialsOf, writeFragment } from './fragment';
import { eventsUrlOf, iceServersOf } from './link';
import { takeSlot } from './slots';
import { readStats } from './stats';

/** A server that does not say within this time whether it has a session is gone. */
const KNOWN_MS = 1500;
/** How often it is looked whether the first picture is there. */
const FRAME_POLL_MS = 50;

/** One WHEP session: a peer connection and the resource that stands for it on the server. */
export class WhepSession {
  readonly pc: RTCPeerConnection;
  readonly stream = new MediaStream();
  /** Where it was opened. */
  endpoint = '';
  #resource: string | undefined;
  #eventsUrl: string | undefined;
  #events: EventSource | undefined;
  #giveBack: (() => void) | undefined;
  #answer = '';
  #isClosed = false;

  constructor(readonly onState: (state: RTCPeerConnectionState) => void) {
    this.pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.pc.addTransceiver('video', { direction: 'recvonly' });
    this.pc.addTransceiver('audio', { direction: 'recvonly' });
    this.pc.ontrack = ({ track }) => this.stream.addTrack(track);
    this.pc.onconnectionstatechange = () => this.onState(this.pc.connectionState);
  }

  /** Sends the offer at once. The server is ICE-lite: it needs no candidates of ours, checks reveal them. */
  async open(url: string, token: string): Promise<void> {
    this.endpoint = url;
    await this.pc.setLocalDescription(stereo(await this.pc.createOffer()));
    const response = await request(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp', Authorization: `Bearer ${token}` },
      body: this.pc.localDescription?.sdp ?? '',
    });
    if (response.status !== 201) throw await Refused.from(response);
    const location = response.headers.get('Location');
    if (location !== null) this.#resource = new URL(location, response.url).href;
    const eventsUrl = eventsUrlOf(response.headers.get('Link'));
    if (eventsUrl !== undefined) this.#eventsUrl = new URL(eventsUrl, response.url).href;
    this.#answer = await response.text();
    if (this.#isClosed) return this.#delete();
    const iceServers = iceServersOf(response.headers.get('Link'));
    if (iceServers.length > 0) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  /**
   * Calls `onReconnect` when the server wants this session to go on at another endpoint, and `onLost` when it can say so no more.
   * A server may not be able to. Fails if it cannot be asked now.
   */
  async listen(onReconnect: (url: string) => void, onLost: () => void): Promise<void> {
    if (this.#eventsUrl === undefined || typeof EventSource === 'undefined') return;
    const giveBack = await takeSlot(new URL(this.#eventsUrl).host);
    if (giveBack === undefined) return;
    this.#giveBack = giveBack;
    if (this.#isClosed) return giveBack();
    try {
      const headers = { 'Content-Type': 'application/json' };
      const response = await request(this.#eventsUrl, { method: 'POST', headers, body: '["reconnect"]' });
      if (response.status === 429 || response.status >= 500) throw await Refused.from(response);
      const location = response.headers.get('Location');
      if (response.status !== 201 || location === null || this.#isClosed) return;
      this.#events = new EventSource(new URL(location, response.url));
    } catch (error) {
      giveBack();
      throw error;
    }
    // While it is open the browser connects anew by itself.
    this.#events.addEventListener('error', () => {
      if (this.#events?.readyState !== EventSource.CLOSED || this.#isClosed) return;
      giveBack();
      onLost();
    });
    this.#events.addEventListener('reconnect', ({ data }: MessageEvent<string>) => {
      const url = urlIn(data);
      if (url !== undefined) onReconnect(url);
    });
  }

  /** Whether the server has this session; nothing if the server cannot be reached. */
  async isKnown(): Promise<boolean | undefined> {
    if (this.#resource === undefined) return false;
    const options = { method: 'HEAD', signal: AbortSignal.timeout?.(KNOWN_MS) ?? null };
    return fetch(this.#resource, options).then(
      ({ ok, status }) => (status >= 500 ? undefined : ok),
      () => undefined,
    );
  }

  /** Says how it goes. Whether that arrives makes no difference. */
  report(body: unknown): void {
    if (this.#resource === undefined) return;
    const headers = { 'Content-Type': 'application/json' };
    const options = { method: 'POST', headers, body: JSON.stringify(body) };
    fetch(`${this.#resource}/playback`, options).catch(() => undefined);
  }

  /** Waits for the first decoded picture, or for sound where there is no picture to come or none is wanted. */
  async firstFrame(withinMs: number, isSoundEnough: boolean): Promise<boolean> {
    const until = performance.now() + withinMs;
    while (performance.now() < until && !this.#isClosed) {
      const report = (await this.pc.getStats()) as unknown as Map<string, Record<string, unknown>>;
      const stats = readStats(report, undefined);
      const hasSound = stats.audioPackets > 0;
      if (stats.frames > 0 || (hasSound && (isSoundEnough || !this.takesPicture))) return true;
      await new Promise((resolve) => setTimeout(resolve, FRAME_POLL_MS));
    }
    return false;
  }

  /** Whether the browser and the server have a picture's codec in common. */
  get takesPicture(): boolean {
    return this.pc
      .getTransceivers()
      .some(
        ({ receiver, currentDirection }) =>
          receiver.track.kind === 'video' && currentDirection === 'recvonly',
      );
  }

  /** The sound alone: of a stream with a picture an element plays nothing until the first picture. */
  sound(): MediaStream {
    return new MediaStream(this.stream.getAudioTracks());
  }

  /** Moves the session to another network path and keeps everything else (RFC 9725, section 4.3.3). */
  async restartIce(): Promise<void> {
    if (this.#resource === undefined) throw new Error('the session is not open');
    await this.pc.setLocalDescription(stereo(await this.pc.createOffer({ iceRestart: true })));
    const credentials = credentialsOf(this.pc.localDescription?.sdp ?? '');
    if (credentials === undefined) throw new Error('the offer has no credentials');
    const response = await request(this.#resource, {
      method: 'PATCH',
      headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' },
      body: writeFragment(credentials),
    });
    if (response.status !== 200) throw await Refused.from(response);
    this.#answer = applyRestart(this.#answer, await response.text());
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  /** Ends the session here and on the server, also while the page is going away. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#events?.close();
    this.#giveBack?.();
    this.pc.onconnectionstatechange = null;
    this.pc.ontrack = null;
    this.pc.close();
    this.#delete();
  }

  #delete(): void {
    if (this.#resource === undefined) return;
    // A server that is gone has ended the session by itself.
    fetch(this.#resource, { method: 'DELETE', keepalive: true }).catch(() => undefined);
    this.#resource = undefined;
  }
}

/** Browsers decode Opus to one channel unless the offer says otherwise (RFC 7587, section 7.1). */
function stereo(offer: RTCSessionDescriptionInit): RTCSessionDescriptionInit {
  const sdp = (offer.sdp ?? '').replace(/(a=fmtp:\d+ minptime=10;useinbandfec=1)(?!;stereo)/g, '$1;stereo=1');
  return { ...offer, sdp };
}

/** The address in a `reconnect` event; nothing if it is none that a page may ask. */
function urlIn(data: string): string | undefined {
  try {
    const { url } = JSON.parse(data) as { url?: unknown };
    return typeof url === 'string' && /^https?:/.test(new URL(url).protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}
