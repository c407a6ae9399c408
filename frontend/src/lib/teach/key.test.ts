import { expect, test } from 'vitest';
import { forgetKey, keepKey, keyOfFragment, readKey, recallKey, type Stores } from './key';

function memory(): Storage {
  const kept = new Map<string, string>();
  return {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  } as Storage;
}

function stores(): Stores {
  const [tab, device] = [memory(), memory()];
  return { tab: () => tab, device: () => device };
}

test('the key of a link', () => {
  expect(keyOfFragment('#key=abc23')).toBe('abc23');
  expect(keyOfFragment('#class=x&key=abc23')).toBe('abc23');
  expect(keyOfFragment('#key=')).toBeUndefined();
  expect(keyOfFragment('#top')).toBeUndefined();
});

test('a key that somebody has entered', () => {
  expect(readKey(' abc 23\n')).toBe('abc23');
  expect(readKey('ключ')).toBeUndefined();
  expect(readKey('   ')).toBeUndefined();
});

test('a key is kept in the tab, and on the device only if that is wanted', () => {
  const here = stores();
  keepKey('7b', { key: 'a', isRemembered: false }, here);
  expect(recallKey('7b', here)).toEqual({ key: 'a', isRemembered: false });
  expect(recallKey('7b', { ...here, tab: memory }), 'another tab').toBeUndefined();
  keepKey('7b', { key: 'b', isRemembered: true }, here);
  expect(recallKey('7b', { ...here, tab: memory })).toEqual({ key: 'b', isRemembered: true });
  expect(recallKey('8b', here), 'another class').toBeUndefined();
  keepKey('7b', { key: 'b', isRemembered: false }, here);
  expect(recallKey('7b', { ...here, tab: memory }), 'not any more').toBeUndefined();
  forgetKey('7b', here);
  expect(recallKey('7b', here)).toBeUndefined();
});

test('a browser that keeps nothing works all the same', () => {
  const refuse = (): never => {
    throw new DOMException('Access is denied for this document.', 'SecurityError');
  };
  const nowhere = { tab: refuse, device: refuse };
  keepKey('7b', { key: 'a', isRemembered: true }, nowhere);
  forgetKey('7b', nowhere);
  expect(recallKey('7b', nowhere)).toBeUndefined();
});
