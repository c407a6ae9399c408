import { X509Certificate } from 'node:crypto';
/** One entry of an `RTCStatsReport`, as it comes out of the page. */
export type Stat = Record<string, unknown> & { type: string; id: string };

/** What the tests look at in `getStats()`, counted since the connection began. */
export interface Playback {
  framesDecoded: number;
  keyFramesDecoded: number;
  framesDropped: number;
  freezeCount: number;
  freezeSeconds: number;
  pliCount: number;
  samplesReceived: number;
  concealedSamples: number;
  audioEnergy: number;
  audioPacketsReceived: number;
  packetsLost: number;
  videoBufferSeconds: number;
  videoBufferFrames: number;
}

/** How the connection is secured. */
export interface Security {
  dtlsState: string;
  srtpCipher: string;
  dtlsCipher: string;
  /** Of the browser's own certificate. */
  certificateKey: string | undefined;
}

/** What changes when a connection is made anew. */
export interface Transport {
  iceUfrag: string;
  localCertificate: string;
  serverCertificate: string;
  ssrcs: number[];
}

/** The way that the media takes. */
export interface Route {
  /** Between the server's address and the viewer: `udp` or `tcp`. */
  protocol: string;
  iceState: string;
}

/** Reads the inbound streams. A medium that is absent counts as zero throughout. */
export function playback(stats: readonly Stat[]): Playback {
  const inbound = (kind: string) =>
    stats.find((stat) => stat.type === 'inbound-rtp' && stat['kind'] === kind);
  const video = inbound('video');
  const audio = inbound('audio');
  return {
    framesDecoded: number(video, 'framesDecoded'),
    keyFramesDecoded: number(video, 'keyFramesDecoded'),
    framesDropped: number(video, 'framesDropped'),
    freezeCount: number(video, 'freezeCount'),
    freezeSeconds: number(video, 'totalFreezesDuration'),
    pliCount: number(video, 'pliCount'),
    samplesReceived: number(audio, 'totalSamplesReceived'),
    concealedSamples: number(audio, 'concealedSamples'),
    audioEnergy: number(audio, 'totalAudioEnergy'),
    audioPacketsReceived: number(audio, 'packetsReceived'),
    packetsLost: number(video, 'packetsLost') + number(audio, 'packetsLost'),
    videoBufferSeconds: number(video, 'jitterBufferDelay'),
    videoBufferFrames: number(video, 'jitterBufferEmittedCount'),
  };
}

/** What happened between two looks. */
export function between(earlier: Playback, later: Playback): Playback {
  const difference = Object.entries(later).map(([name, value]) => [
    name,
    value - earlier[name as keyof Playback],
  ]);
  return Object.fromEntries(difference) as Playback;
}

/** The share of the played samples that the browser had to make up. */
export function concealedShare(played: Playback): number {
  return played.concealedSamples / Math.max(played.samplesReceived, 1);
}

/** How the connection's one transport is secured. */
export function security(stats: readonly Stat[]): Security {
  const found = onlyTransport(stats);
  return {
    dtlsState: String(found['dtlsState']),
    srtpCipher: String(found['srtpCipher']),
    dtlsCipher: String(found['dtlsCipher']),
    certificateKey: keyOf(stats, String(found['localCertificateId'])),
  };
}

function keyOf(stats: readonly Stat[], id: string): string | undefined {
  const certificate = stats.find((stat) => stat.id === id)?.['base64Certificate'];
  const der = Buffer.from(String(certificate ?? ''), 'base64');
  return new X509Certificate(der).publicKey.asymmetricKeyType;
}

/** The identity of the connection's one transport. */
export function transport(stats: readonly Stat[]): Omit<Transport, 'serverCertificate'> {
  const found = onlyTransport(stats);
  const inbound = stats.filter((stat) => stat.type === 'inbound-rtp');
  return {
    iceUfrag: String(found['iceLocalUsernameFragment']),
    localCertificate: String(found['localCertificateId']),
    ssrcs: inbound.map((stat) => number(stat, 'ssrc')).sort((a, b) => a - b),
  };
}

/** The way of the connection's one transport: its selected pair of candidates. */
export function route(stats: readonly Stat[]): Route {
  const found = onlyTransport(stats);
  const pair = stats.find(({ id }) => id === found['selectedCandidatePairId']);
  const server = stats.find(({ id }) => id === pair?.['remoteCandidateId']);
  return { protocol: String(server?.['protocol']), iceState: String(found['iceState']) };
}

function onlyTransport(stats: readonly Stat[]): Stat {
  const [found, ...others] = stats.filter((stat) => stat.type === 'transport');
  if (found === undefined || others.length > 0)
    throw new Error(`one transport expected, not ${others.length + 1}`);
  return found;
}

function number(stat: Stat | undefined, name: string): number {
  const value = stat?.[name];
  return typeof value === 'number' ? value : 0;
}
