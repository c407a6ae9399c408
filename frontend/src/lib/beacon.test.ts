import { expect, test } from 'vitest';
import { reportOf, type Around } from './beacon';
import { readStats, type Stats } from './whep/stats';

const stats = (over: Partial<Stats>): Stats => ({ ...readStats([]), ...over });
const around: Around = {
  isVisible: true,
  isPaused: false,
  isMuted: false,
  delayMs: 123.4,
  firstPictureMs: undefined,
};

test('a report says what happened since the one before', () => {
  const before = stats({ frames: 300, audioPackets: 500, freezes: 1, frozenMs: 200, packets: 900, lost: 3 });
  const now = stats({
    frames: 600,
    audioPackets: 1000,
    freezes: 3,
    frozenMs: 900.4,
    packets: 1800,
    lost: 10,
  });
  expect(reportOf(before, now, around)).toEqual({
    is_seen: true,
    is_heard: true,
    delay_ms: 123,
    freezes: 2,
    frozen_ms: 700,
    packets: 900,
    lost: 7,
  });
  expect(reportOf(undefined, now, { ...around, firstPictureMs: 80 })).toMatchObject({
    freezes: 3,
    first_picture_ms: 80,
  });
});

test('what nobody can see or hear is not said to be seen or heard', () => {
  const before = stats({ frames: 300, audioPackets: 500 });
  const now = stats({ frames: 600, audioPackets: 1000 });
  const said = (over: Partial<Around>) => {
    const { is_seen, is_heard } = reportOf(before, now, { ...around, ...over });
    return [is_seen, is_heard];
  };
  expect(said({ isVisible: false })).toEqual([false, true]);
  expect(said({ isMuted: true })).toEqual([true, false]);
  expect(said({ isPaused: true })).toEqual([false, false]);
  expect(reportOf(now, now, around)).toMatchObject({ is_seen: false, is_heard: false });
  expect(reportOf(now, stats({ lost: 0 }), around).lost, 'packets that came after all').toBe(0);
});
