/**
 * The tests' own viewer: the least WHEP client that plays, built into a bare page.
 *
 * It shares no code with the product's player, so that the server is judged by a second opinion and times can be taken
 * at the exact moments that are claimed. Tests reach it as `window.probe`.
 */
import { ageMs, readStamp, STRIP_CELLS, STRIP_HEIGHT } from '../harness/gray';
import type { Stat } from '../harness/stats';

/** When things happened, in milliseconds since the WHEP POST was sent. */
export interface JoinTimes {
  answered: number;
  connected: number;
  /** The decoder handed out the first picture. */
  decoded: number;
  /** The first picture went to the compositor. */
  shown: number;
}

/** The age of one frame when it was due on the screen. */
export interface ClockReading {
  /** Milliseconds since the POST. */
  at: number;
  latency: number;
}

/** How a viewer joins. */
export interface JoinOptions {
  /** Reads the Gray clock from every frame. */
  readClock?: boolean;
  /** Knows of nothing but the server's TCP candidates, as if the network dropped every datagram. */
  onlyTcp?: boolean;
  /** Proves itself with an RSA key of so many bits, as GStreamer does, and not with the ECDSA key that browsers make. */
  rsaBits?: number;
}

function rsaKey(modulusLength: number): RsaHashedKeyGenParams {
  const publicExponent = new Uint8Array([1, 0, 1]);
  return { name: 'RSASSA-PKCS1-v1_5', modulusLength, publicExponent, hash: 'SHA-256' };
}

/** A decoded picture, reduced to what proves that it is a picture. */
export interface Picture {
  width: number;
  height: number;
  /** Different colours among 16 x 9 samples: 1 would be a blank screen. */
  colours: number;
  checksum: number;
}

/** The loudest pitch in the decoded sound. */
export interface Tone {
  hertz: number;
  decibels: number;
}

/** Readings kept per viewer: over an hour at 30 frames a second. */
const READINGS_MAX = 120_000;

/** Of RTP's clock for pictures, at 30 a second. */
const TICKS_PER_PICTURE = 3_000;

/** Sound without a picture for so long is a lesson without one. */
const SOUND_ONLY_MS = 700;

class Viewer {
  readonly connection: RTCPeerConnection;
  readonly states: string[] = [];
  readonly readings: ClockReading[] = [];
  readonly #video: HTMLVideoElement;
  readonly #stream = new MediaStream();
  readonly #canvas = new OffscreenCanvas(STRIP_CELLS, 1);
  #session: string | undefined;
  #answer = '';
  #posted = 0;
  #times: Partial<JoinTimes> = {};
  #readsClock = false;
  #closed = false;
  /** RTP's times of the first and the latest picture that was shown. */
  #ticks: [number, number] | undefined;

  /** Without certificates the browser makes its own. */
  constructor(video: HTMLVideoElement, certificates: RTCCertificate[]) {
    this.#video = video;
    this.connection = new RTCPeerConnection({
      iceServers: [],
      bundlePolicy: 'max-bundle',
      rtcpMuxPolicy: 'require',
      certificates,
    });
    this.connection.addEventListener('track', ({ track }) => {
      this.#stream.addTrack(track);
      this.#video.srcObject = this.#stream;
    });
    this.connection.addEventListener('connectionstatechange', () => {
      const state = this.connection.connectionState;
      this.states.push(state);
      if (state === 'connected') this.#times.connected ??= this.#sincePost();
    });
  }

  get times(): Partial<JoinTimes> {
    return this.#times;
  }

  get stream(): MediaStream {
    return this.#stream;
  }

  /** An element plays nothing of a stream with a picture until the first one: a lesson of sound alone is given without. */
  async #playSoundAlone(): Promise<void> {
    const count = async (kind: string, name: string) => {
      const found = (await this.stats()).find((stat) => stat.type === 'inbound-rtp' && stat['kind'] === kind);
      return Number(found?.[name] ?? 0);
    };
    // Not before a lesson with a picture has shown it, so that joins are measured undisturbed.
    do await new Promise((resolve) => setTimeout(resolve, SOUND_ONLY_MS));
    while (!this.#closed && (await count('audio', 'packetsReceived')) === 0);
    if (this.#closed || (await count('video', 'framesDecoded')) > 0) return;
    this.#video.srcObject = new MediaStream(this.#stream.getAudioTracks());
  }

  /** Posts the offer and applies the answer. Resolves to the HTTP status: 201 means that media may come. */
  async join(endpoint: string, token: string, onlyTcp: boolean): Promise<number> {
    this.connection.addTransceiver('video', { direction: 'recvonly' });
    this.connection.addTransceiver('audio', { direction: 'recvonly' });
    await this.connection.setLocalDescription();
    this.#watchFrames();
    this.#posted = performance.now();
    const answer = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp', authorization: `Bearer ${token}` },
      body: this.connection.localDescription?.sdp ?? '',
    });
    if (answer.status !== 201) return answer.status;
    this.#session = new URL(answer.headers.get('location') ?? '', answer.url).href;
    const sdp = await answer.text();
    this.#times.answered = this.#sincePost();
    this.#answer = onlyTcp ? sdp.replace(/^a=candidate:.* udp .*\r\n/gm, '') : sdp;
    await this.connection.setRemoteDescription({ type: 'answer', sdp: this.#answer });
    void this.#playSoundAlone();
    return answer.status;
  }

  /** Restarts ICE over WHEP (RFC 9725, section 4.3) and returns the status of the PATCH. */
  async restartIce(): Promise<number> {
    if (this.#session === undefined) throw new Error('there is no session');
    await this.connection.setLocalDescription(await this.connection.createOffer({ iceRestart: true }));
    const line = (sdp: string, name: string) => new RegExp(`^a=${name}:.*$`, 'm').exec(sdp)?.[0] ?? '';
    const offer = this.connection.localDescription?.sdp ?? '';
    const patched = await fetch(this.#session, {
      method: 'PATCH',
      headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
      body: `${line(offer, 'ice-ufrag')}\r\n${line(offer, 'ice-pwd')}\r\n`,
    });
    if (patched.status !== 200) return patched.status;
    const fragment = await patched.text();
    this.#answer = this.#answer
      .replace(/^a=ice-ufrag:.*$/gm, line(fragment, 'ice-ufrag'))
      .replace(/^a=ice-pwd:.*$/gm, line(fragment, 'ice-pwd'));
    await this.connection.setRemoteDescription({ type: 'answer', sdp: this.#answer });
    return patched.status;
  }

  /** The server's certificate. The statistics will not do: they keep what they saw first, which may be none. */
  serverCertificate(): string {
    const transport = this.connection.getReceivers()[0]?.transport;
    const [certificate] = transport?.getRemoteCertificates() ?? [];
    return certificate === undefined ? 'none' : btoa(String.fromCharCode(...new Uint8Array(certificate)));
  }

  /** Begins to read the Gray clock from every frame that is shown. */
  readClock(): void {
    this.#readsClock = true;
  }

  async stats(): Promise<Stat[]> {
    const found = await this.connection.getStats();
    return [...found.values()] as Stat[];
  }

  picture(): Picture {
    const [columns, rows] = [16, 9];
    const context = new OffscreenCanvas(columns, rows).getContext('2d');
    if (context === null) throw new Error('no canvas');
    context.drawImage(this.#video, 0, 0, columns, rows);
    const pixels = new Uint32Array(context.getImageData(0, 0, columns, rows).data.buffer);
    const checksum = pixels.reduce((sum, pixel) => (Math.imul(sum, 31) + pixel) | 0, 0);
    const { videoWidth: width, videoHeight: height } = this.#video;
    return { width, height, colours: new Set(pixels).size, checksum };
  }

  /** How many pictures there are from the first to the latest that was shown, those that never came included. */
  picturesDue(): number {
    const [first, latest] = this.#ticks ?? [0, -TICKS_PER_PICTURE];
    return Math.round(((latest - first) >>> 0) / TICKS_PER_PICTURE) + 1;
  }

  /** DELETEs the session and closes the connection. */
  async leave(): Promise<void> {
    this.#closed = true;
    this.connection.close();
    this.#video.srcObject = null;
    if (this.#session !== undefined) await fetch(this.#session, { method: 'DELETE' });
  }

  #sincePost(): number {
    return performance.now() - this.#posted;
  }

  #watchFrames(): void {
    const onFrame = (_now: number, frame: VideoFrameCallbackMetadata) => {
      if (this.#closed) return;
      this.#video.requestVideoFrameCallback(onFrame);
      const ticks = frame.rtpTimestamp ?? Number.NaN;
      this.#ticks = [this.#ticks?.[0] ?? ticks, ticks];
      if (this.#times.shown === undefined) {
        this.#times.shown = frame.presentationTime - this.#posted;
        // When the last packet came in, plus what the decoder took. Absent, presentation has to stand for it.
        const decoded = (frame.receiveTime ?? Number.NaN) + (frame.processingDuration ?? Number.NaN) * 1_000;
        this.#times.decoded = Number.isNaN(decoded) ? this.#times.shown : decoded - this.#posted;
      }
      if (this.#readsClock) this.#readFrame(frame);
    };
    this.#video.requestVideoFrameCallback(onFrame);
  }

  #readFrame(frame: VideoFrameCallbackMetadata): void {
    const context = this.#canvas.getContext('2d', { willReadFrequently: true });
    if (context === null || this.readings.length >= READINGS_MAX) return;
    // Nearest-neighbour sampling takes the middle of each cell, and one row takes the middle of the strip.
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#video, 0, STRIP_HEIGHT / 2, frame.width, 1, 0, 0, STRIP_CELLS, 1);
    const pixels = context.getImageData(0, 0, STRIP_CELLS, 1).data;
    const stamp = readStamp(pixels.filter((_, i) => i % 4 === 1));
    if (stamp === undefined) return;
    const due = performance.timeOrigin + frame.expectedDisplayTime;
    this.readings.push({ at: frame.expectedDisplayTime - this.#posted, latency: ageMs(stamp, due) });
  }
}

/** What tests may do with the bare page. One viewer at a time. */
class Probe {
  #viewer: Viewer | undefined;

  get viewer(): Viewer {
    if (this.#viewer === undefined) throw new Error('nobody has joined');
    return this.#viewer;
  }

  async join(endpoint: string, token: string, options: JoinOptions = {}): Promise<number> {
    await this.#viewer?.leave();
    // A new element for each viewer, so that no frame of the one before can pass for a first frame.
    const video = document.createElement('video');
    video.autoplay = true;
    video.playsInline = true;
    document.body.replaceChildren(video);
    const certificates = options.rsaBits
      ? [await RTCPeerConnection.generateCertificate(rsaKey(options.rsaBits))]
      : [];
    this.#viewer = new Viewer(video, certificates);
    if (options.readClock) this.#viewer.readClock();
    return this.#viewer.join(endpoint, token, options.onlyTcp === true);
  }

  /** Listens to the decoded sound for as long as one spectrum takes. */
  async tone(): Promise<Tone> {
    const context = new AudioContext({ sampleRate: 48_000 });
    // Of the sound alone: an element with a track for the picture too is silent until the first picture.
    const sound = new MediaStream(this.viewer.stream.getAudioTracks());
    const element = new Audio();
    element.srcObject = sound;
    element.muted = true;
    try {
      await element.play();
      const analyser = new AnalyserNode(context, { fftSize: 16_384, smoothingTimeConstant: 0 });
      context.createMediaStreamSource(sound).connect(analyser);
      await context.resume();
      // The analyser's window has to fill once with sound before its spectrum means anything.
      const full = context.currentTime + (2 * analyser.fftSize) / context.sampleRate;
      while (context.currentTime < full) await new Promise(requestAnimationFrame);
      const spectrum = new Float32Array(analyser.frequencyBinCount);
      analyser.getFloatFrequencyData(spectrum);
      const loudest = spectrum.reduce(
        (best, level, bin) => (level > (spectrum[best] ?? -Infinity) ? bin : best),
        0,
      );
      const hertz = (loudest * context.sampleRate) / analyser.fftSize;
      return { hertz, decibels: spectrum[loudest] ?? -Infinity };
    } finally {
      element.srcObject = null;
      await context.close();
    }
  }
}

declare global {
  interface Window {
    probe: Probe;
  }
}

window.probe = new Probe();
