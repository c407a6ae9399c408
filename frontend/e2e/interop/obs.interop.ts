import { expect } from 'vitest';
import { test } from '../harness/lesson';
import { Desktop, type Settings } from './obs';
import { isInstalled, versionOf } from './installed';
import { conclude, type Expected, notTried, TOLD_MS } from './rows';
import { watch } from './published';

interface Way extends Expected {
  settings: Settings;
}

const SIMPLE = { Output: { Mode: 'Simple' } };
const ADVANCED = { Output: { Mode: 'Advanced' }, AdvOut: { Encoder: 'obs_x264', TrackIndex: '1' } };
const BITRATE = { rate_control: 'CBR', bitrate: 600 };

const WAYS: Way[] = [
  {
    name: 'OBS Studio, as installed',
    settings: { profile: SIMPLE },
    result: 'slide show and sound',
    problems: ['b_frames_keyframes_only', 'keyframes_rare'],
    note:
      'B-frames that others depend on cannot be shown live, so that only keyframes are. Settings, Output: tick ' +
      '"Enable Advanced Encoder Settings" and write `bframes=0 keyint=60` into "Custom Encoder Settings".',
  },
  {
    name: 'OBS Studio, Simple, `bframes=0 keyint=60`',
    settings: {
      profile: { ...SIMPLE, SimpleOutput: { UseAdvanced: 'true', x264Settings: 'bframes=0 keyint=60' } },
    },
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'OBS Studio, Simple, preset `ultrafast`',
    settings: { profile: { ...SIMPLE, SimpleOutput: { UseAdvanced: 'true', Preset: 'ultrafast' } } },
    result: 'picture and sound',
    problems: ['keyframes_rare'],
    note: 'Keyframes come 8 s apart: write `keyint=60` into "Custom Encoder Settings" as well.',
  },
  {
    name: 'OBS Studio, Advanced, keyframe interval 2 s, `zerolatency`',
    settings: { profile: ADVANCED, encoder: { ...BITRATE, keyint_sec: 2, tune: 'zerolatency' } },
    result: 'picture and sound',
    problems: [],
  },
  {
    name: 'OBS Studio, Advanced, keyframe interval 2 s, `bframes=0`',
    settings: { profile: ADVANCED, encoder: { ...BITRATE, keyint_sec: 2, x264opts: 'bframes=0' } },
    result: 'picture and sound',
    problems: [],
  },
];

for (const way of WAYS) {
  test(way.name, async ({ server, keep, probe, skip }) => {
    const version = isInstalled('Xvfb') ? versionOf('obs') : undefined;
    if (version === undefined) return skip(notTried(way, 'obs-studio or xvfb'));
    const desktop = await Desktop.open(keep);
    const start = () => keep(desktop.stream(server.ready.rtmp_url, server.ready.key, way.settings));
    const seen = await watch(server, probe, start);
    conclude(way, version, seen);
    if (way.problems[0] !== 'b_frames_keyframes_only') return;
    const told = seen.problems.find(({ code }) => code === way.problems[0]);
    expect(told?.afterMs).toBeLessThan(TOLD_MS);
    expect(told?.text).toContain('"Enable Advanced Encoder Settings", then bframes=0 keyint=60');
  });
}
