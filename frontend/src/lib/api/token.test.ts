import { expect, test } from 'vitest';
import { endpoint, ownUserId } from './token';

test('the token does not stay in the address that the page asks', () => {
  const url = 'http://school.example:8889/live/lesson/whep?jwt=a.b.c';
  expect(endpoint(url, 'smooth')).toBe('http://school.example:8889/live/lesson/whep');
  expect(endpoint(url, 'low')).toBe('http://school.example:8889/live/lesson/whep?latency=low');
});

test('an address without a token is left as it is', () => {
  const url = 'https://[fd00::5]/live/lesson/whep';
  expect(endpoint(url, 'smooth')).toBe(url);
  expect(endpoint(`${url}?tier=low`, 'low')).toBe(`${url}?tier=low&latency=low`);
});

test('a browser keeps its id, and one that keeps nothing has one all the same', () => {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  } as Storage;
  const id = ownUserId(() => storage);
  expect(id).toMatch(/^web-[a-z0-9]{9,18}$/);
  expect(ownUserId(() => storage)).toBe(id);

  const refuse = (): never => {
    throw new DOMException('Access is denied for this document.', 'SecurityError');
  };
  expect(ownUserId(refuse)).toMatch(/^web-[a-z0-9]{9,18}$/);
  expect(ownUserId(() => ({ ...storage, getItem: () => null, setItem: refuse }))).toMatch(/^web-/);
});
