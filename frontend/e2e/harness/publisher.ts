import { Child } from './child';
import { strip } from './gray';
import type { Host } from './namespaces';
import { loadBinary } from './server';

/** The pitch every publisher plays, in Hz. A wrong sample rate anywhere on the line would be heard as another one. */
export const TONE_HZ = 440;

/** How a lesson is encoded. What is left out is the plain case: 640x360, 30 frames a second, baseline, 2 s GOP. */
export interface Lesson {
  width?: number;
  height?: number;
  /** Seconds between keyframes. */
  gop?: number;
  /** ffmpeg's `-b:v`. */
  bitrate?: string;
  /** x264's own switches: profile, tune, preset, B-frames. */
  x264?: readonly string[];
  /** Burns the Gray clock into the picture. */
  clock?: boolean;
  audio?: { rate: 32_000 | 44_100 | 48_000; channels: 1 | 2 };
  /** Leaves a whole medium out. */
  only?: 'audio' | 'video';
}

const FRAMES_PER_SECOND = 30;

/** What a phone's hardware encoder sends: no B-frames, no look-ahead, one slice. */
const PHONE = ['-preset', 'ultrafast', '-tune', 'zerolatency', '-profile:v', 'baseline'];

/** One thread: several would either cut the frame into slices or hold back a frame for each of them. */
const ONE_SLICE = ['-x264-params', 'slices=1:threads=1'];

/**
 * x264 holding no frame back but those it needs to order B-frames. `b-adapt=0` makes it use every B-frame it may, so that
 * the test does not hang on what the scene happens to look like.
 */
function reordering(bframes: number, pyramid: 'none' | 'normal'): string[] {
  const params = `bframes=${bframes}:b-pyramid=${pyramid}:b-adapt=0:rc-lookahead=0:sync-lookahead=0:mbtree=0:threads=1`;
  return ['-preset', 'veryfast', '-profile:v', 'main', '-x264-params', params];
}

/** The encodings that phones and desktop encoders are known to send. */
export const LESSONS = {
  baseline: { x264: [...PHONE, ...ONE_SLICE] },
  high: { x264: ['-preset', 'veryfast', '-tune', 'zerolatency', '-profile:v', 'high', ...ONE_SLICE] },
  fourSlices: { x264: [...PHONE, '-x264-params', 'slices=4:sliced-threads=1'] },
  aac44Mono: { audio: { rate: 44_100, channels: 1 } },
  aac48Stereo: { audio: { rate: 48_000, channels: 2 } },
  aac32Stereo: { audio: { rate: 32_000, channels: 2 } },
  audioOnly: { only: 'audio' },
  videoOnly: { only: 'video' },
  oneBFrame: { x264: reordering(1, 'none'), gop: 2 },
  bPyramid: { x264: reordering(3, 'normal'), gop: 1 },
} as const satisfies Record<string, Lesson>;

/** A lesson whose picture tells the time, at the size and rate of an ordinary phone. */
export function clockLesson(gop: number): Lesson {
  return {
    width: 1_280,
    height: 720,
    bitrate: '2500k',
    gop,
    clock: true,
    audio: { rate: 48_000, channels: 2 },
  };
}

/** The arguments that make ffmpeg send `lesson` to an RTMP URL, or write it to an FLV file, in real time. */
export function ffmpegArguments(lesson: Lesson, target: string): string[] {
  const width = lesson.width ?? 640;
  const height = lesson.height ?? 360;
  const gop = String((lesson.gop ?? 2) * FRAMES_PER_SECOND);
  const audio = lesson.audio ?? { rate: 44_100, channels: 1 };
  const bitrate = lesson.bitrate ?? '600k';

  const scene = ['-re', '-f', 'lavfi', '-i', `testsrc2=size=${width}x${height}:rate=${FRAMES_PER_SECOND}`];
  const tone = ['-re', '-f', 'lavfi', '-i', `sine=frequency=${TONE_HZ}:sample_rate=${audio.rate}`];
  const picture = [
    ...(lesson.clock
      ? ['-filter_complex', strip(width), '-map', '[v]']
      : ['-map', '0:v', '-pix_fmt', 'yuv420p']),
    ...['-c:v', 'libx264', ...(lesson.x264 ?? [...PHONE, ...ONE_SLICE])],
    ...['-g', gop, '-keyint_min', gop, '-sc_threshold', '0'],
    ...['-b:v', bitrate, '-maxrate', bitrate, '-bufsize', bitrate],
  ];
  const sound = ['-c:a', 'aac', '-b:a', '96k', '-ar', String(audio.rate), '-ac', String(audio.channels)];
  const media = {
    both: [...scene, ...tone, ...picture, '-map', '1:a', ...sound],
    audio: [...tone, '-map', '0:a', ...sound],
    video: [...scene, ...picture],
  }[lesson.only ?? 'both'];

  const quiet = ['-hide_banner', '-nostdin', '-loglevel', 'warning', '-y'];
  const nagle = target.startsWith('rtmp:') ? ['-tcp_nodelay', '1'] : [];
  // Without the flush, ffmpeg's buffer holds a frame back until the next one fills it.
  return [
    ...quiet,
    ...media,
    '-flush_packets',
    '1',
    '-f',
    'flv',
    '-flvflags',
    'no_duration_filesize',
    ...nagle,
    target,
  ];
}

/**
 * The pipeline of GStreamer's own RTMP client, which shares no code with ffmpeg's.
 *
 * OpenH264 encodes, because it comes with the plug-ins the set-up installs; x264 lives in a package of its own.
 */
export function gstreamerPipeline(target: string): string[] {
  return [
    ...['-q', 'videotestsrc', 'is-live=true', 'pattern=ball'],
    ...['!', `video/x-raw,width=640,height=360,framerate=${FRAMES_PER_SECOND}/1`],
    ...['!', 'openh264enc', 'complexity=low', 'rate-control=bitrate', 'bitrate=600000', 'gop-size=60'],
    ...['!', 'h264parse', '!', 'queue', '!', 'mux.'],
    ...['audiotestsrc', 'is-live=true', `freq=${TONE_HZ}`, 'volume=0.2', 'samplesperbuffer=1024'],
    ...['!', 'audio/x-raw,rate=44100,channels=2', '!', 'audioconvert', '!', 'avenc_aac', 'bitrate=96000'],
    ...['!', 'aacparse', '!', 'queue', '!', 'mux.'],
    ...['flvmux', 'name=mux', 'streamable=true', '!', 'rtmp2sink', `location=${target}`],
  ];
}

/** A teacher's phone, played by ffmpeg. */
export function publish(lesson: Lesson, target: string, host?: Host): Child {
  return new Child('ffmpeg', ffmpegArguments(lesson, target), host);
}

/** A teacher's encoder, played by GStreamer. */
export function publishWithGstreamer(target: string): Child {
  return new Child('gst-launch-1.0', gstreamerPipeline(target));
}

/** An FLV file, message by message as it stands there, in real time. */
export function publishFile(file: string, target: string): Child {
  return new Child(loadBinary(), ['publish', '--file', file, '--rtmp', target]);
}
