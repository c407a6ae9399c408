import { expect, test } from 'vitest';
import { readPin } from './pin';

test('digits of every script are the digits of the PIN', () => {
  const scripts = {
    ASCII: '0123456789',
    Arabic: '٠١٢٣٤٥٦٧٨٩',
    Persian: '۰۱۲۳۴۵۶۷۸۹',
    Devanagari: '०१२३४५६७८९',
    Bengali: '০১২৩৪৫৬৭৮৯',
    Thai: '๐๑๒๓๔๕๖๗๘๙',
    'full width': '０１２３４５６７８９',
    Adlam: '𞥐𞥑𞥒𞥓𞥔𞥕𞥖𞥗𞥘𞥙',
    'bold, of mathematics': '𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗',
  };
  for (const [script, digits] of Object.entries(scripts)) expect(readPin(digits), script).toBe('0123456789');
});

test('letters and signs stay, spaces and marks of direction go', () => {
  expect(readPin('Room-7!x~')).toBe('Room-7!x~');
  expect(readPin(' 123\u00a0456\t')).toBe('123456');
  expect(readPin('\u200f\u0661\u0662\u0663\u200e456\u2069')).toBe('123456');
  expect(readPin(' \u200f ')).toBe('');
});

test('what no class can have as its PIN is refused', () => {
  for (const entered of [
    'пароль',
    'é12345',
    '12345ß',
    '口令123456',
    '12345🔑',
    'a\u0000bcdef',
    '1'.repeat(65),
  ])
    expect(readPin(entered), entered).toBeUndefined();
  expect(readPin('1'.repeat(64))).toBe('1'.repeat(64));
});
