/** A bit rate as apps write it; nothing while there is none. */
export function rateOf(bps: number): string | undefined {
  if (bps <= 0) return undefined;
  if (bps < 950_000) return `${Math.round(bps / 1_000)} kbit/s`;
  return `${(bps / 1_000_000).toFixed(1)} Mbit/s`;
}
