/** Characters of the longest PIN that a class can have. */
const PIN_LEN_MAX = 64;

/**
 * The PIN that somebody means: digits of any script are digits, and neither spaces nor the marks that keyboards add for the
 * direction of writing belong to it. `undefined` if no class can have such a PIN: it would not fit into a header either.
 */
export function readPin(entered: string): string | undefined {
  const plain = entered.normalize('NFKC').replace(/[\s\p{Cf}]/gu, '');
  const pin = plain.replace(/\p{Nd}/gu, (digit) => String(valueOf(digit)));
  return /^[!-~]*$/.test(pin) && pin.length <= PIN_LEN_MAX ? pin : undefined;
}

/** Decimal digits stand in Unicode from 0 to 9 without a gap (chapter 4.6), so those before it tell which one it is. */
function valueOf(digit: string): number {
  let code = digit.codePointAt(0) ?? 0;
  let before = 0;
  while (/\p{Nd}/u.test(String.fromCodePoint(--code))) before += 1;
  return before % 10;
}
