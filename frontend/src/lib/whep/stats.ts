/** What the overlay and the watchdog look at. */
export interface Stats {
  frames: number;
  videoBytes: number;
  /** Whole pictures that came, whether they could be decoded or not. */
  pictures: number;
  audioPackets: number;
  width: number;
  height: number;
  fps: number;
  bitrateKbps: number;
  rttMs: number;
  lost: number;
  jitterBufferMs: number;
  freezes: number;
  concealedPercent: number;
  codec: string;
  cipher: string;
  bytes: number;
  atMs: number;
}

const at = (report: Record<string, unknown>, key: string): number => {
  const value = report[key];
  return typeof value === 'number' ? value : 0;
};

/** Why there is sound and no picture. */
export type Pictureless = 'soundOnly' | 'notShown' | 'noH264';

/** Two seconds of sound without a picture; before that one may be on its way. */
const SOUND_ALONE_PACKETS = 100;

/** Whether there is sound alone, and why: nothing of a picture came, none was shown of what came, or this browser takes none. */
export function picturelessOf(stats: Stats, takesPicture: boolean): Pictureless | undefined {
  if (stats.audioPackets <= SOUND_ALONE_PACKETS || stats.frames > 0) return undefined;
  if (!takesPicture) return 'noH264';
  return stats.videoBytes > 0 ? 'notShown' : 'soundOnly';
}

/** Reads a report; rates are those since the one before. */
export function readStats(report: Iterable<[string, Record<string, unknown>]>, before?: Stats): Stats {
  const all = new Map(report);
  const inbound = [...all.values()].filter((entry) => entry['type'] === 'inbound-rtp');
  const video = inbound.find((entry) => entry['kind'] === 'video') ?? {};
  const audio = inbound.find((entry) => entry['kind'] === 'audio') ?? {};
  const transport = [...all.values()].find((entry) => entry['type'] === 'transport') ?? {};
  const pair = all.get(String(transport['selectedCandidatePairId'])) ?? {};
  const codec = all.get(String(video['codecId'] ?? audio['codecId'])) ?? {};
  const media = at(video, 'jitterBufferEmittedCount') > 0 ? video : audio;
  const bytes = inbound.reduce((sum, entry) => sum + at(entry, 'bytesReceived'), 0);
  const atMs = at(transport, 'timestamp');
  const elapsedMs = before === undefined ? 0 : atMs - before.atMs;
  const samples = at(audio, 'totalSamplesReceived');
  return {
    frames: at(video, 'framesDecoded'),
    videoBytes: at(video, 'bytesReceived'),
    pictures: at(video, 'framesReceived'),
    audioPackets: at(audio, 'packetsReceived'),
    width: at(video, 'frameWidth'),
    height: at(video, 'frameHeight'),
    fps: at(video, 'framesPerSecond'),
    bitrateKbps: before === undefined || elapsedMs <= 0 ? 0 : ((bytes - before.bytes) * 8) / elapsedMs,
    rttMs: at(pair, 'currentRoundTripTime') * 1000,
    lost: inbound.reduce((sum, entry) => sum + at(entry, 'packetsLost'), 0),
    jitterBufferMs:
      (at(media, 'jitterBufferDelay') / Math.max(1, at(media, 'jitterBufferEmittedCount'))) * 1000,
    freezes: at(video, 'freezeCount'),
    concealedPercent: samples > 0 ? (at(audio, 'concealedSamples') / samples) * 100 : 0,
    codec: String(codec['mimeType'] ?? ''),
    cipher: String(transport['srtpCipher'] ?? ''),
    bytes,
    atMs,
  };
}
