import { expect } from 'vitest';
import type { Probe } from '../harness/browser';
import { test } from '../harness/lesson';
import { clockLesson } from '../harness/publisher';
import { percentile, report, spread } from '../harness/results';
import type { Server } from '../harness/server';
import { until } from '../harness/until';
import type { ClockReading } from '../page/probe';

/** Joins for each GOP, one in each of as many parts of it: `JOINS=60 make bench-browser` for the tail. */
const JOINS = Number(process.env['JOINS'] ?? 20);

/** Reaching the live edge later than this is counted apart: at a GOP of 10 s it is what people would notice. */
const LATE_MS = 2_000;

/** A viewer is at the live edge when its latency is this close to what it settles at. */
const LIVE_EDGE_MS = 50;

/** Consecutive frames at the live edge that count as being there: a sixth of a second. */
const LIVE_FRAMES = 5;

/** The stretch at the end of a join's observation by which its settled latency is told. */
const SETTLED_MS = 1_000;

interface Join {
  /** Milliseconds after a multiple of the GOP on the wall clock, which the encoder keeps time by. */
  place: number;
  answered: number;
  connected: number;
  decoded: number;
  shown: number;
  liveEdge: number;
  settled: number;
}

for (const gop of [2, 10]) {
  // Each join is observed for a GOP and two seconds, and may wait for two GOPs until its part of one comes.
  const timeout = JOINS * (3 * gop + 15) * 1_000;
  test(`joining a lesson with a keyframe every ${gop} s`, { timeout }, async ({ server, teach, probe }) => {
    teach(clockLesson(gop));
    await server.untilLive();
    const joins: Join[] = [];
    const unvisited = new Set(Array.from({ length: JOINS }, (_, slot) => slot));
    while (unvisited.size > 0) {
      unvisited.delete(await arrival(gop * 1_000, unvisited));
      const place = Date.now() % (gop * 1_000);
      // Longer than a GOP, so that a viewer who is a GOP behind catches up within the observation and is found out.
      const join = { place, ...(await joinOnce(server, probe, (gop + 2) * 1_000)) };
      console.log(`joined ${place} ms into the GOP, live edge after ${Math.round(join.liveEdge)} ms`);
      joins.push(join);
    }

    const rows = {
      'POST to answer': spread(joins.map((join) => join.answered)),
      'POST to connected': spread(joins.map((join) => join.connected)),
      'POST to first decoded frame': spread(joins.map((join) => join.decoded)),
      'POST to first frame shown': spread(joins.map((join) => join.shown)),
      'POST to live edge': spread(joins.map((join) => join.liveEdge)),
      'settled latency': spread(joins.map((join) => join.settled)),
    };
    report(`join-gop-${gop}s`, rows, joins);
    // A join that never got there, which is no number, is late too.
    const late = joins.filter(({ liveEdge }) => !(liveEdge <= LATE_MS)).length;
    const latest = rows['POST to live edge'].max;
    console.log(
      `live edge: ${late} of ${joins.length} joins after more than ${LATE_MS} ms, the latest after ${latest}`,
    );

    // Wide margins: the table is the result, these only notice that something is broken.
    expect(rows['POST to first decoded frame'].p95).toBeLessThan(1_000);
    expect(rows['POST to live edge'].p95).toBeLessThan(gop * 1_000);
  });
}

/**
 * Waits until the wall clock is in one of the `slots` into which each period is divided, and says in which.
 *
 * The encoder keeps time by the same clock, so one join in every slot is a join in every part of the GOP.
 */
function arrival(periodMs: number, slots: ReadonlySet<number>): Promise<number> {
  return until(
    'an unvisited part of the GOP',
    () => {
      const slot = Math.floor(((Date.now() % periodMs) / periodMs) * JOINS);
      return slots.has(slot) ? slot : undefined;
    },
    2 * periodMs,
  );
}

async function joinOnce(server: Server, probe: Probe, observedMs: number): Promise<Omit<Join, 'place'>> {
  await probe.join(server, { readClock: true });
  const readings = await until(
    'the join to be observed',
    async () => {
      const readings = await probe.readings();
      return (readings.at(-1)?.at ?? 0) >= observedMs ? readings : undefined;
    },
    observedMs + 20_000,
  );
  const { answered, connected, decoded, shown } = await probe.times();
  const settled = settledLatency(readings);
  return {
    answered: answered ?? Number.NaN,
    connected: connected ?? Number.NaN,
    decoded: decoded ?? Number.NaN,
    shown: shown ?? Number.NaN,
    liveEdge: liveEdge(readings, settled),
    settled,
  };
}

function settledLatency(readings: readonly ClockReading[]): number {
  const end = readings.at(-1)?.at ?? 0;
  return percentile(
    readings.filter(({ at }) => at > end - SETTLED_MS).map(({ latency }) => latency),
    0.5,
  );
}

/** When the first of `LIVE_FRAMES` consecutive frames at the live edge was due on the screen. */
function liveEdge(readings: readonly ClockReading[], settled: number): number {
  const late = (reading: ClockReading) => reading.latency > settled + LIVE_EDGE_MS;
  const first = readings.findIndex((_, i) => !readings.slice(i, i + LIVE_FRAMES).some(late));
  return readings[first]?.at ?? Number.NaN;
}
