import { expect, test } from 'vitest';
import { takeSlot } from './slots';

test('a host has three slots in all tabs, and one that is given back is free', async () => {
  const taken = [];
  for (let n = 0; n < 3; n += 1) taken.push(await takeSlot('node:8889'));
  expect(taken.every((giveBack) => giveBack !== undefined)).toBe(true);
  expect(await takeSlot('node:8889')).toBeUndefined();
  const elsewhere = await takeSlot('other:8889');
  expect(elsewhere).toBeDefined();
  taken[0]?.();
  const again = await takeSlot('node:8889');
  expect(again).toBeDefined();
  for (const giveBack of [...taken, elsewhere, again]) giveBack?.();
});
