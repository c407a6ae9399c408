import { expect, test } from 'vitest';
import { columnsFor } from './layout';

const room = (width: number, height: number) => ({
  width,
  height,
  foot: 36,
  gap: 10,
  least: 140,
  ease: 240,
});

test('26 classes fill a large screen without scrolling, and 64 do with small tiles', () => {
  for (const [count, columns] of [
    [26, 7],
    [64, 11],
  ] as const) {
    expect(columnsFor(count, room(1_880, 830))).toBe(columns);
    const tile = (1_880 - 10 * (columns - 1)) / columns;
    const rows = Math.ceil(count / columns);
    expect(rows * (tile * (9 / 16) + 36) + 10 * (rows - 1)).toBeLessThanOrEqual(830);
  }
});

test('a phone has one column, and a tablet as many as are at ease', () => {
  expect(columnsFor(26, room(296, 400))).toBe(1);
  expect(columnsFor(26, room(760, 300))).toBe(3);
  expect(columnsFor(0, room(296, 400))).toBe(1);
});

test('one class has all the room that there is', () => {
  expect(columnsFor(1, room(1_200, 800))).toBe(1);
  expect(columnsFor(2, room(1_200, 800))).toBe(2);
});
