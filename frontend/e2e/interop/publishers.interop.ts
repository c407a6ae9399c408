import { existsSync } from 'node:fs';
import type { Child } from '../harness/child';
import { test } from '../harness/lesson';
import { hasElement, versionOf } from './installed';
import { compileLibrtmp, ffmpeg, gstreamer, librtmp, vlc, vlcVersion } from './publishers';
import { conclude, type Expected, notTried } from './rows';
import { watch } from './published';

interface Publisher extends Expected {
  version: () => string | undefined;
  /** What has to be installed. */
  needs: string;
  /** Prepares what takes time, and answers how the program is started. */
  prepare: (target: string) => () => Child;
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
    prepare: (target) => () => ffmpeg(target, ['-tune', 'zerolatency', '-g', '60']),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'ffmpeg, libx264 with its own settings',
    version: () => versionOf('ffmpeg', ['-version']),
    needs: 'ffmpeg',
    prepare: (target) => () => ffmpeg(target, []),
    result: 'slide show and sound',
    problems: ['b_frames_keyframes_only', 'keyframes_rare'],
    note: B_FRAMES_NOTE,
  },
  {
    name: 'GStreamer rtmpsink',
    version: () => gstreamerVersion('rtmpsink'),
    needs: GSTREAMER_NEEDS,
    prepare: (target) => () => gstreamer({ sink: 'rtmpsink', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink',
    version: () => gstreamerVersion('rtmp2sink'),
    needs: GSTREAMER_NEEDS,
    prepare: (target) => () => gstreamer({ sink: 'rtmp2sink', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink with voaacenc',
    version: () => gstreamerVersion('rtmp2sink', 'voaacenc'),
    needs: GSTREAMER_NEEDS,
    prepare: (target) => () => gstreamer({ sink: 'rtmp2sink', aac: 'voaacenc', format: 'I420' }, target),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'GStreamer rtmp2sink, x264enc without a pixel format',
    version: () => gstreamerVersion('rtmp2sink'),
    needs: GSTREAMER_NEEDS,
    prepare: (target) => () => gstreamer({ sink: 'rtmp2sink' }, target),
    result: 'nothing',
    problems: ['profile_unsupported'],
    note: 'It chooses 4:4:4, which no browser shows: write `video/x-raw,format=I420` before `x264enc`.',
  },
  {
    name: 'librtmp, a program of our own',
    version: () => (existsSync('/usr/include/librtmp/rtmp.h') ? versionOf(compileLibrtmp()) : undefined),
    needs: 'librtmp-dev',
    prepare: librtmp,
    result: 'picture and sound',
    problems: [],
    size: '960x540',
    isUntuned: true,
  },
  {
    name: 'VLC, `venc=x264{tune=zerolatency,keyint=60}`',
    version: vlcVersion,
    needs: 'vlc-bin or vlc-plugin-base',
    prepare: (target) => vlc(target, 'venc=x264{preset=veryfast,tune=zerolatency,keyint=60}'),
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'VLC, x264 with its own settings',
    version: vlcVersion,
    needs: 'vlc-bin or vlc-plugin-base',
    prepare: (target) => vlc(target, 'venc=x264'),
    result: 'slide show and sound',
    problems: ['b_frames_keyframes_only', 'keyframes_rare'],
    note: 'B-frames: write `venc=x264{tune=zerolatency,keyint=60}` behind `vcodec=h264`.',
  },
];

for (const publisher of PUBLISHERS) {
  test(publisher.name, async ({ server, keep, probe, skip }) => {
    const version = publisher.version();
    if (version === undefined) return skip(notTried(publisher, publisher.needs));
    const start = publisher.prepare(server.bareKeyUrl);
    const seen = await watch(server, probe, () => keep(start()));
    conclude(publisher, version, seen);
  });
}
