import { execFileSync } from 'node:child_process';

/** What RTMP carries at a time: FLV's kind of message, its milliseconds and its bytes. */
export interface Tag {
  kind: number;
  ms: number;
  body: Buffer;
}

const AUDIO = 8;
const VIDEO = 9;
const FILE_HEADER = Buffer.from('464c5601050000000900000000', 'hex');
const TAG_HEADER = 11;
/** Before an Opus packet in enhanced RTMP: the format of the format, the kind of packet, the codec. */
const OPUS_HEADER = Buffer.from('\x91Opus', 'latin1');
const OPUS_FRAME_MS = 20;

const ffmpeg = (...args: string[]): Buffer =>
  execFileSync('ffmpeg', ['-v', 'error', '-f', 'lavfi', ...args, 'pipe:1'], { maxBuffer: 1 << 28 });

/** A moving picture, as a phone encodes it. */
export function picture(seconds: number): Tag[] {
  const scene = `testsrc2=size=640x360:rate=30:duration=${seconds}`;
  const phone = [
    '-preset',
    'ultrafast',
    '-tune',
    'zerolatency',
    '-profile:v',
    'baseline',
    '-pix_fmt',
    'yuv420p',
  ];
  const size = ['-b:v', '600k', '-g', '60', '-x264-params', 'slices=1:threads=1'];
  return tagsOf(ffmpeg('-i', scene, '-c:v', 'libx264', ...phone, ...size, '-f', 'flv'), VIDEO);
}

const tone = (hertz: number, rate: number, seconds: number) => [
  '-i',
  `sine=frequency=${hertz}:sample_rate=${rate}:duration=${seconds}`,
];

/** A tone in AAC. */
export function aac(hertz: number, rate: number, channels: number, seconds: number): Tag[] {
  const codec = ['-c:a', 'aac', '-b:a', '96k', '-ac', String(channels), '-f', 'flv'];
  return tagsOf(ffmpeg(...tone(hertz, rate, seconds), ...codec), AUDIO);
}

/** A tone in Opus. */
export function opus(hertz: number, seconds: number): Tag[] {
  const codec = ['-c:a', 'libopus', '-ac', '2', '-frame_duration', String(OPUS_FRAME_MS), '-f', 'ogg'];
  const [, , ...packets] = oggPackets(ffmpeg(...tone(hertz, 48_000, seconds), ...codec));
  return packets.map((packet, at) => ({
    kind: AUDIO,
    ms: at * OPUS_FRAME_MS,
    body: Buffer.concat([OPUS_HEADER, packet]),
  }));
}

/** The same, so much later. */
export function after(seconds: number, tags: readonly Tag[]): Tag[] {
  return tags.map((tag) => ({ ...tag, ms: tag.ms + seconds * 1_000 }));
}

/** An FLV file of all of it, in the order of time. */
export function flv(...parts: readonly Tag[][]): Buffer {
  const tags = parts.flat().sort((a, b) => a.ms - b.ms);
  const files = tags.map(({ kind, ms, body }) => {
    const tag = Buffer.alloc(TAG_HEADER + body.length + 4);
    tag.writeUInt8(kind);
    tag.writeUIntBE(body.length, 1, 3);
    tag.writeUIntBE(ms, 4, 3);
    body.copy(tag, TAG_HEADER);
    tag.writeUInt32BE(TAG_HEADER + body.length, TAG_HEADER + body.length);
    return tag;
  });
  return Buffer.concat([FILE_HEADER, ...files]);
}

function tagsOf(file: Buffer, kind: number): Tag[] {
  const tags: Tag[] = [];
  for (let at = FILE_HEADER.length; at + TAG_HEADER <= file.length;) {
    const length = file.readUIntBE(at + 1, 3);
    const body = file.subarray(at + TAG_HEADER, at + TAG_HEADER + length);
    if (file[at] === kind) tags.push({ kind, ms: file.readUIntBE(at + 4, 3), body });
    at += TAG_HEADER + length + 4;
  }
  return tags;
}

/** The packets in an Ogg file of one stream (RFC 3533): a piece of 255 bytes goes on in the next. */
function oggPackets(file: Buffer): Buffer[] {
  const packets: Buffer[] = [];
  let pieces: Buffer[] = [];
  for (let at = 0; at < file.length;) {
    const lengths = file.subarray(at + 27, at + 27 + (file[at + 26] ?? 0));
    at += 27 + lengths.length;
    for (const length of lengths) {
      pieces.push(file.subarray(at, at + length));
      at += length;
      if (length === 255) continue;
      packets.push(Buffer.concat(pieces));
      pieces = [];
    }
  }
  return packets;
}
