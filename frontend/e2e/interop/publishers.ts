import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { Child } from '../harness/child';
import { TONE_HZ } from '../harness/publisher';
import { run, versionOf } from './installed';

/** What programs send that make their own picture: small, because some encode with settings that cost much. */
export const SIZE = { width: 320, height: 180 };
export const FRAMES_PER_SECOND = 30;

const TARGET = join(import.meta.dirname, '..', '..', '..', 'target', 'interop');
const LESSON = join(import.meta.dirname, '..', '..', '..', 'lectern', 'assets', 'lesson.flv');

const SCENE = `testsrc2=size=${SIZE.width}x${SIZE.height}:rate=${FRAMES_PER_SECOND}`;
const TONE = `sine=frequency=${TONE_HZ}:sample_rate=44100`;

/** Longer than any test watches, in seconds. */
const FILM_S = '120';

/** ffmpeg as README.md tells to use it, but for what comes after `-c:v libx264`. */
export function ffmpeg(target: string, x264: readonly string[]): Child {
  return new Child('ffmpeg', [
    ...['-hide_banner', '-nostdin', '-loglevel', 'info', '-nostats'],
    ...['-re', '-f', 'lavfi', '-i', SCENE, '-re', '-f', 'lavfi', '-i', TONE],
    ...['-c:v', 'libx264', ...x264, '-pix_fmt', 'yuv420p', '-c:a', 'aac', '-f', 'flv', target],
  ]);
}

/** How GStreamer is used. */
interface Pipeline {
  sink: 'rtmpsink' | 'rtmp2sink';
  aac?: string;
  /** Without one, `videotestsrc` and `x264enc` agree on 4:4:4. */
  format?: 'I420';
}

/** GStreamer with x264, by one of its two RTMP elements. */
export function gstreamer({ sink, aac = 'avenc_aac', format }: Pipeline, target: string): Child {
  // rtmpsink hands its address to librtmp, which takes options after a blank.
  const location = sink === 'rtmpsink' ? `${target} live=1` : target;
  const caps = [`width=${SIZE.width}`, `height=${SIZE.height}`, `framerate=${FRAMES_PER_SECOND}/1`];
  return new Child('gst-launch-1.0', [
    ...['videotestsrc', 'is-live=true', 'pattern=ball'],
    ...['!', ['video/x-raw', ...(format === undefined ? [] : [`format=${format}`]), ...caps].join(',')],
    ...['!', 'x264enc', 'tune=zerolatency', 'speed-preset=veryfast', 'bitrate=600', 'key-int-max=60'],
    ...['!', 'h264parse', '!', 'queue', '!', 'mux.'],
    ...['audiotestsrc', 'is-live=true', `freq=${TONE_HZ}`, 'volume=0.2', 'samplesperbuffer=1024'],
    ...['!', 'audio/x-raw,rate=44100,channels=2', '!', 'audioconvert', '!', aac, 'bitrate=96000'],
    ...['!', 'aacparse', '!', 'queue', '!', 'mux.'],
    ...['flvmux', 'name=mux', 'streamable=true', '!', sink, `location=${location}`],
  ]);
}

/** Compiles the program around librtmp, and answers where it is. */
export function compileLibrtmp(): string {
  mkdirSync(TARGET, { recursive: true });
  const program = join(TARGET, 'librtmp-publish');
  const source = join(import.meta.dirname, 'clients', 'librtmp', 'publish.c');
  run('cc', ['-std=gnu11', '-O1', '-Wall', source, '-o', program, '-lrtmp']);
  return program;
}

/** librtmp itself, with the lesson that `lectern demo` publishes. */
export function librtmp(target: string): () => Child {
  const program = compileLibrtmp();
  return () => new Child(program, [LESSON, `${target} live=1`]);
}

/** A folder that everybody may use, with a film of the moving bars and the tone: for programs that play files. */
export function filmFolder(): { folder: string; film: string } {
  const folder = mkdtempSync(join(tmpdir(), 'lectern-interop-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  chmodSync(folder, 0o777);
  const film = join(folder, 'film.mp4');
  const picture = ['-c:v', 'libx264', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p', '-g', '30'];
  const media = [
    '-f',
    'lavfi',
    '-i',
    SCENE,
    '-f',
    'lavfi',
    '-i',
    TONE,
    '-t',
    FILM_S,
    ...picture,
    '-c:a',
    'aac',
  ];
  run('ffmpeg', ['-hide_banner', '-nostdin', '-loglevel', 'error', ...media, film]);
  return { folder, film };
}

/** VLC without a window, told with which encoder. */
export function vlc(target: string, encoder: string): () => Child {
  const { folder, film } = filmFolder();
  const sound = 'acodec=mp4a,ab=96,channels=2,samplerate=44100';
  const output = `#transcode{vcodec=h264,${encoder},${sound}}:std{access=rtmp,mux=ffmpeg{mux=flv},dst=${target}}`;
  const [program, ...args] = unprivileged('env', `HOME=${folder}`, 'vlc', '-I', 'dummy', '--no-color');
  return () => new Child(program, [...args, film, '--sout', output]);
}

export function vlcVersion(): string | undefined {
  const [program, ...args] = unprivileged('vlc', '-I', 'dummy', '--version');
  return versionOf(program, args);
}

/** VLC refuses to work for root. */
function unprivileged(...command: [string, ...string[]]): [string, ...string[]] {
  const isRoot = process.getuid?.() === 0;
  return isRoot ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...command] : command;
}
