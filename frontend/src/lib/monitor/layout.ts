/** The room for tiles, in pixels. */
export interface Room {
  width: number;
  height: number;
  /** Below the picture of a tile. */
  foot: number;
  gap: number;
  /** The narrowest tile on a wall that is seen as a whole. */
  least: number;
  /** The narrowest on one that scrolls. */
  ease: number;
}

const RATIO = 9 / 16;

/** How many columns show all tiles as large as they can be without scrolling; if they would be too small, as many as are at ease. */
export function columnsFor(count: number, room: Room): number {
  const { width, height, foot, gap, least, ease } = room;
  for (let columns = 1; columns <= Math.max(1, count); columns += 1) {
    const tile = (width - gap * (columns - 1)) / columns;
    if (tile < least) break;
    const rows = Math.ceil(count / columns);
    if (rows * (tile * RATIO + foot) + gap * (rows - 1) <= height) return columns;
  }
  return Math.max(1, Math.floor((width + gap) / (ease + gap)));
}
