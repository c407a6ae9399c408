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
}

/** Reads the inbound streams. A medium that is absent counts as zero throughout. */
export function playback(stats: readonly Stat[]): Playback {
  const inbound = (kind: string) => stats.find((stat) => stat.type === 'inbound-rtp' && stat['kind'] === kind);
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
  const difference = Object.entries(later).map(([name, value]) => [name, value - earlier[name as keyof Playback]]);
  return Object.fromEntries(difference) as Playback;
}

/** The share of the played samples that the browser had to make up. */
export function concealedShare(played: Playback): number {
  return played.concealedSamples / Math.max(played.samplesReceived, 1);
}

/** Reads the one transport of a bundled connection. */
export function security(stats: readonly Stat[]): Security {
  const transports = stats.filter((stat) => stat.type === 'transport');
  if (transports.length !== 1) throw new Error(`one transport expected, ${transports.length} found`);
  return {
    dtlsState: String(transports[0]?.['dtlsState']),
    srtpCipher: String(transports[0]?.['srtpCipher']),
    dtlsCipher: String(transports[0]?.['dtlsCipher']),
  };
}

function number(stat: Stat | undefined, name: string): number {
  const value = stat?.[name];
  return typeof value === 'number' ? value : 0;
}
