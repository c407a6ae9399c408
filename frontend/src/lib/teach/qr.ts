import { encode } from 'uqr';

/** Light modules around the code, without which it is not found. */
const QUIET = 4;

export interface QrPicture {
  /** Modules from edge to edge. */
  size: number;
  /** The dark ones, as an SVG path of this size. */
  path: string;
}

/** The picture of a text: as few modules as hold it, so that each is large. */
export function qrOf(text: string, ecc: 'L' | 'M' = 'L'): QrPicture {
  const { data, size } = encode(text, { ecc, border: QUIET });
  return { size, path: data.map((row, y) => rowOf(row, y)).join('') };
}

/** Neighbours are one piece: no seam between them when it is scaled. */
function rowOf(row: readonly boolean[], y: number): string {
  let path = '';
  for (let x = 0; x < row.length; x += 1) {
    if (row[x] !== true) continue;
    const from = x;
    while (row[x + 1] === true) x += 1;
    path += `M${from} ${y}h${x + 1 - from}v1H${from}z`;
  }
  return path;
}
