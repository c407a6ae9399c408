import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import type { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { TONE_HZ } from '../harness/publisher';
import { hasElement, versionOf } from './programs';
import { compileLibrtmp, ffmpeg, gstreamer, librtmp, SIZE } from './publishers';
import { record } from './report';
import { type Seen, watch } from './seen';

/** One bin of the page's spectrum is 3 Hz wide. */
const TONE_TOLERANCE_HZ = 6;

/** What the server says of a busy machine, and not of a program. */
const OF_THE_MACHINE = ['speed', 'lumps'];

interface Publisher {
  name: string;
  version: () => string | undefined;
  /** What has to be installed. */
  needs: string;
  start: (target: string) => Child;
  result: Seen['result'];
  /** Codes of the problems that the server tells of, and goes on telling. */
  problems: string[];
  size?: string;
  /** What is sent has no steady pitch. */
  isUntuned?: boolean;
  note?: string;
}

const B_FRAMES_NOTE =
  'B-frames that others depend on cannot be shown live, so that only keyframes are: use `-tune zerolatency -g 60`.';

const GSTREAMER_NEEDS = 'gstreamer1.0-plugins-bad, -libav or -ugly';

function gstreamerVersion(...elements: string[]): string | undefined {
  const has = [...elements, 'x264enc', 'avenc_aac', 'flvmux'].every((name) => hasElement(name));
  return has ? versionOf('gst-launch-1.0') : undefined;
}

const PUBLISHERS: Publisher[] = [
  {
    name: 'ffmpeg, `-tune zerolatency -g 60`',
    version: () => versionOf('ffmpeg', ['-version']),
    needs: 'ffmpeg',
    start: (target) => ffmpeg(target, ['-tune', 'zerolatency', '-g', '60']),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'ffmpeg, libx264 with its own settings',
    version: () => versionOf('ffmpeg', ['-version']),
    needs: 'ffmpeg',
    start: (target) => ffmpeg(target, []),
    result: 'slide show and sound',
    // Keyframes are 8.3 s apart as well, but of that nothing is told where nothing but keyframes is passed on.
    problems: ['b_frames_keyframes_only'],
    note: B_FRAMES_NOTE,
  },
  {
    name: 'GStreamer rtmpsink',
    version: () => gstreamerVersion('rtmpsink'),
    needs: GSTREAMER_NEEDS,
    start: (target) => gstreamer({ sink: 'rtmpsink', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink',
    version: () => gstreamerVersion('rtmp2sink'),
    needs: GSTREAMER_NEEDS,
    start: (target) => gstreamer({ sink: 'rtmp2sink', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink with voaacenc',
    version: () => gstreamerVersion('rtmp2sink', 'voaacenc'),
    needs: GSTREAMER_NEEDS,
    start: (target) => gstreamer({ sink: 'rtmp2sink', aac: 'voaacenc', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink, x264enc without a pixel format',
    version: () => gstreamerVersion('rtmp2sink'),
    needs: GSTREAMER_NEEDS,
    start: (target) => gstreamer({ sink: 'rtmp2sink' }, target),
    result: 'nothing',
    problems: ['profile_unsupported'],
    note: 'It chooses 4:4:4, which no browser shows: write `video/x-raw,format=I420` before `x264enc`.',
  },
  {
    name: 'librtmp, a program of our own',
    version: () => (existsSync('/usr/include/librtmp/rtmp.h') ? versionOf(compileLibrtmp()) : undefined),
    needs: 'librtmp-dev',
    start: (target) => librtmp(compileLibrtmp(), target),
    result: 'picture and sound',
    problems: [],
    size: '960x540',
    isUntuned: true,
  },
];

for (const publisher of PUBLISHERS) {
  test(publisher.name, async ({ server, keep, probe, skip }) => {
    const { name, result, note } = publisher;
    const version = publisher.version();
    if (version === undefined) {
      const reason = `${publisher.needs} is not installed here.`;
      record({ kind: 'publisher', name, version: '', result: 'not tried', note: reason });
      return skip(reason);
    }
    const seen = await watch(server, probe, () => keep(publisher.start(server.bareKeyUrl)));
    console.log(`${name} ${version}: ${JSON.stringify(seen, null, 1)}`);
    record({
      kind: 'publisher',
      name,
      version,
      result: seen.result,
      ...(seen.firstFrameMs === undefined ? {} : { firstFrameMs: seen.firstFrameMs }),
      ...(note === undefined ? {} : { note }),
    });
    const lasting = seen.problems.filter((problem) => problem.isLasting).map(({ code }) => code);
    expect(seen.result).toBe(result);
    if (result !== 'nothing') expect(seen.size).toBe(publisher.size ?? `${SIZE.width}x${SIZE.height}`);
    expect(lasting.filter((code) => !OF_THE_MACHINE.includes(code)).sort()).toEqual(publisher.problems);
    if (result !== 'nothing' && !publisher.isUntuned)
      expect(Math.abs(seen.hertz - TONE_HZ)).toBeLessThan(TONE_TOLERANCE_HZ);
  });
}
