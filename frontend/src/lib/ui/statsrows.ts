import { strings } from '../../strings';
import type { Stats } from '../whep/stats';

export type Row = readonly [name: string, value: string];

/** The statistics as the page shows them. */
export function statsRows(stats: Stats, delayMs: number | undefined): readonly Row[] {
  const names = strings.statsRows;
  return [
    ...(delayMs === undefined ? [] : [[names.delay, `${delayMs.toFixed(0)} ms`] as const]),
    [names.picture, `${stats.width}×${stats.height} @ ${stats.fps.toFixed(0)}`],
    [names.bitrate, `${stats.bitrateKbps.toFixed(0)} kbit/s`],
    [names.codec, stats.codec],
    [names.roundTrip, `${stats.rttMs.toFixed(0)} ms`],
    [names.buffer, `${stats.jitterBufferMs.toFixed(0)} ms`],
    [names.lost, String(stats.lost)],
    [names.freezes, String(stats.freezes)],
    [names.concealed, `${stats.concealedPercent.toFixed(2)} %`],
    [names.cipher, stats.cipher],
  ];
}
