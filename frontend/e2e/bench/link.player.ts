import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'vitest';
import { launch, Probe } from '../harness/browser';
import type { Stat } from '../harness/stats';

/**
 * Chromium as a player of `lectern-load bottleneck`, which starts this in a network namespace behind a slow link and says
 * in the file that `LINK_TASK` names what to watch. Run by `vitest --mode link`, never by the suites.
 */
interface Task {
  tokenUrl: string | null;
  whep: string | null;
  /** When to join, in milliseconds after a keyframe. */
  placesMs: number[];
  /** A moment at which there was a keyframe, in UNIX milliseconds. */
  keyframeMs: number;
  gopMs: number;
  seconds: number;
  /** Where the figures go. */
  output: string;
}

/** How long before a join everything for it is ready. */
const LEAD_MS = 300;

/** How long a join may take until the first picture; longer than a GOP of 10 s. */
const FIRST_PICTURE_MS = 20_000;

test('joins behind a slow link', { timeout: 3_600_000 }, async () => {
  const path = process.env['LINK_TASK'];
  if (path === undefined) throw new Error('LINK_TASK names no file: this is started by `make bench-link`');
  const task = JSON.parse(readFileSync(path, 'utf8')) as Task;
  const browser = await launch();
  const joins: object[] = [];
  try {
    for (const placeMs of task.placesMs) joins.push(await joinOnce(await Probe.open(browser), task, placeMs));
  } finally {
    await browser.close();
  }
  writeFileSync(task.output, JSON.stringify(joins));
});

async function joinOnce(probe: Probe, task: Task, placeMs: number): Promise<object> {
  const token = await admission(task);
  const now = Date.now() + LEAD_MS;
  const gops = Math.max(Math.ceil((now - task.keyframeMs - placeMs) / task.gopMs), 0);
  await pause(task.keyframeMs + gops * task.gopMs + placeMs - Date.now());
  await probe.post({ token: () => Promise.resolve(token) });
  const began = performance.now();
  const elapsed = () => performance.now() - began;
  // Figures are of a stretch of time, whatever came in it: a stream that stands still must not lengthen it.
  while (elapsed() < task.seconds * 1_000) await pause(100);
  const stats = await probe.stats();
  let times = await probe.times();
  while (times.decoded === undefined && elapsed() < FIRST_PICTURE_MS) {
    await pause(100);
    times = await probe.times();
  }
  // The next join has the link to itself only if this one takes nothing of it any more.
  await probe.leave();
  await probe.dispose();
  return { placeMs, firstPictureMs: times.decoded ?? null, ...figures(stats) };
}

async function admission({ tokenUrl, whep }: Task): Promise<{ webrtc_url: string; token: string }> {
  if (tokenUrl === null) return { webrtc_url: whep ?? '', token: 'none' };
  const answer = await fetch(tokenUrl, { method: 'POST' });
  if (!answer.ok) throw new Error(`POST ${tokenUrl}: ${answer.status}`);
  return (await answer.json()) as { webrtc_url: string; token: string };
}

/** What the inbound streams counted; a medium that is absent counts as zero. */
function figures(stats: readonly Stat[]): Record<string, number> {
  const inbound = (kind: string) =>
    stats.find((stat) => stat.type === 'inbound-rtp' && stat['kind'] === kind);
  const of = (kind: string, name: string) => Number(inbound(kind)?.[name] ?? 0);
  return {
    framesDecoded: of('video', 'framesDecoded'),
    framesDropped: of('video', 'framesDropped'),
    freezeCount: of('video', 'freezeCount'),
    freezeSeconds: of('video', 'totalFreezesDuration'),
    videoReceived: of('video', 'packetsReceived'),
    videoLost: of('video', 'packetsLost'),
    receivedAgain: of('video', 'retransmittedPacketsReceived'),
    nackCount: of('video', 'nackCount'),
    pliCount: of('video', 'pliCount'),
    audioReceived: of('audio', 'packetsReceived'),
    audioLost: of('audio', 'packetsLost'),
    concealedPercent:
      (of('audio', 'concealedSamples') / Math.max(of('audio', 'totalSamplesReceived'), 1)) * 100,
  };
}
