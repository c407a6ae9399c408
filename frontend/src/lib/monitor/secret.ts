/** Where it is kept, for this tab or for this device. */
const KEY = 'lectern.monitor-secret';

/** Storage that is blocked throws when it is looked at. */
function quietly<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

/** The secret of a link, which does not stay in the address bar. */
export function takeSecret(): string | undefined {
  const secret = new URLSearchParams(location.hash.slice(1)).get('secret')?.trim();
  if (secret === undefined || secret === '') return undefined;
  history.replaceState(history.state, '', location.pathname + location.search);
  return secret;
}

export function recallSecret(): string | undefined {
  const kept = quietly(() => sessionStorage.getItem(KEY)) ?? quietly(() => localStorage.getItem(KEY));
  return kept ?? undefined;
}

export function keepSecret(secret: string, isForDevice: boolean): void {
  quietly(() => sessionStorage.setItem(KEY, secret));
  if (isForDevice) quietly(() => localStorage.setItem(KEY, secret));
}

export function forgetSecret(): void {
  quietly(() => sessionStorage.removeItem(KEY));
  quietly(() => localStorage.removeItem(KEY));
}

/** What says who asks. A header takes ASCII alone, and a secret is nothing else. */
export function headersOf(secret: string | undefined): Record<string, string> {
  return secret === undefined ? {} : { Authorization: `Bearer ${secret}` };
}

export const isUsable = (secret: string): boolean => /^[\x21-\x7e]+$/.test(secret);
