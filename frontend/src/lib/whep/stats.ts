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
  /** Of the last seconds, as is what is concealed. */
  jitterBufferMs: number;
  freezes: number;
  frozenMs: number;
  concealedPercent: number;
  packets: number;
  /** When what is shown now was at the server, by its clock: milliseconds since 1970. */
  shownFromMs: number | undefined;
  codec: string;
  cipher: string;
  bytes: number;
  atMs: number;
  /** What the rates of the last seconds are reckoned from: seconds in the buffer and what left it; samples and those made up. */
  bufferedS: number;
  emitted: number;
  samples: number;
  concealed: number;
}

/** From 1900, where NTP begins, to 1970. */
const NTP_TO_UNIX_MS = 2_208_988_800_000;

const at = (report: Record<string, unknown>, key: string): number => {
  const value = report[key];
  return typeof value === 'number' ? value : 0;
};

/** Why there is sound and no picture. */
export type Pictureless = 'soundOnly' | 'notShown' | 'noH264';

/** A second of sound without a picture; before that one may be on its way. */
export const SOUND_ALONE_PACKETS = 50;

/** Whether there is sound alone, and why: nothing of a picture came, none was shown of what came, or this browser takes none. */
export function picturelessOf(stats: Stats, takesPicture: boolean): Pictureless | undefined {
  if (stats.audioPackets <= SOUND_ALONE_PACKETS || stats.frames > 0) return undefined;
  if (!takesPicture) return 'noH264';
  return stats.videoBytes > 0 ? 'notShown' : 'soundOnly';
}

/** Reads a report; rates are those since the one before, and of what varies since an older one. */
export function readStats(
  report: Iterable<[string, Record<string, unknown>]>,
  before?: Stats,
  older?: Stats,
): Stats {
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
  const concealed = at(audio, 'concealedSamples');
  const bufferedS = at(media, 'jitterBufferDelay');
  const emitted = at(media, 'jitterBufferEmittedCount');
  // Pictures are shown when their sound is; the clock of the sound is the steadier one.
  const playout = at(audio, 'estimatedPlayoutTimestamp') || at(video, 'estimatedPlayoutTimestamp');
  const newSamples = samples - (older?.samples ?? 0);
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
      ((bufferedS - (older?.bufferedS ?? 0)) / Math.max(1, emitted - (older?.emitted ?? 0))) * 1000,
    freezes: at(video, 'freezeCount'),
    frozenMs: at(video, 'totalFreezesDuration') * 1000,
    concealedPercent: newSamples > 0 ? ((concealed - (older?.concealed ?? 0)) / newSamples) * 100 : 0,
    packets: inbound.reduce((sum, entry) => sum + at(entry, 'packetsReceived'), 0),
    shownFromMs: playout > NTP_TO_UNIX_MS ? playout - NTP_TO_UNIX_MS : undefined,
    bufferedS,
    emitted,
    samples,
    concealed,
    codec: String(codec['mimeType'] ?? ''),
    cipher: String(transport['srtpCipher'] ?? ''),
    bytes,
    atMs,
  };
}
