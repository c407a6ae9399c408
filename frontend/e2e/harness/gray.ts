/**
 * The clock in the picture, by which glass-to-glass latency is measured without a camera.
 *
 * The publisher paints a strip of 48 cells across the top of every frame: 4 cells to recognise it by, the wall clock in
 * milliseconds modulo 2^40 as a 40-bit Gray code with the most significant bit first, and 4 more to recognise it by. In a
 * Gray code neighbours differ in one bit, so a millisecond that ends while the strip is being drawn costs one
 * millisecond of accuracy and never a wild value.
 */

const HEAD = [1, 0, 1, 0] as const;
const TAIL = [0, 1, 0, 1] as const;
const STAMP_BITS = 40;

/** Milliseconds after which a stamp begins again: 2^40, almost 35 years. */
const STAMP_WRAP_MS = 2 ** STAMP_BITS;

/** Luma between black and white. The encoder blurs edges, not the middle of a cell. */
const THRESHOLD = 125;

/** Cells in the strip. */
export const STRIP_CELLS = HEAD.length + STAMP_BITS + TAIL.length;

/** Height of the strip in the picture: two macroblocks, so that its middle is far from any blurred edge. */
export const STRIP_HEIGHT = 32;

/** Reads the stamp from one luma value per cell; `undefined` when this is not a strip. */
export function readStamp(levels: ArrayLike<number>): number | undefined {
  if (levels.length !== STRIP_CELLS) return undefined;
  const bits = Array.from(levels, (level) => (level > THRESHOLD ? 1 : 0));
  const framed =
    HEAD.every((bit, i) => bits[i] === bit) &&
    TAIL.every((bit, i) => bits[HEAD.length + STAMP_BITS + i] === bit);
  if (!framed) return undefined;
  let bit = 0;
  let stamp = 0;
  for (const gray of bits.slice(HEAD.length, HEAD.length + STAMP_BITS)) {
    bit ^= gray;
    stamp = stamp * 2 + bit;
  }
  return stamp;
}

/** How old a stamp is at the wall clock `nowMs`. */
export function ageMs(stamp: number, nowMs: number): number {
  const age = (nowMs - stamp) % STAMP_WRAP_MS;
  // A frame cannot come from the future, except by the millisecond that rounding hides.
  return age < -STAMP_WRAP_MS / 2 ? age + STAMP_WRAP_MS : age;
}

/**
 * The ffmpeg filter that paints the strip on `[0:v]` of the given width and calls the result `[v]`.
 *
 * The clock is evaluated for 48 x 2 pixels and then blown up, because `geq` interprets its expression for every pixel.
 * The small picture is cropped from the frame itself, so it is drawn at the moment the frame passes and not ahead of it.
 */
export function strip(width: number): string {
  const bit = (x: string) => `mod(floor(ld(0)/pow(2,${x})),2)`;
  const last = HEAD.length + STAMP_BITS - 1;
  const luma = [
    `st(0,mod(floor(time(0)*1000),${STAMP_WRAP_MS}))`,
    `255*if(lt(X,${HEAD.length}),1-mod(X,2),if(gt(X,${last}),mod(X,2),abs(${bit(`${last}-X`)}-${bit(`${last + 1}-X`)})))`,
  ].join(';');
  return [
    '[0:v]split[scene][seed]',
    `[seed]crop=${STRIP_CELLS}:2:0:0,format=gray,geq=lum='${luma}',scale=${width}:${STRIP_HEIGHT}:flags=neighbor[strip]`,
    '[scene][strip]overlay=0:0:shortest=1,format=yuv420p[v]',
  ].join(';');
}
