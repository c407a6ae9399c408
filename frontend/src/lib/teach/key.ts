/** The stream key of a class, and where this browser keeps it. */
export interface KeptKey {
  key: string;
  /** Beyond the life of this tab. */
  isRemembered: boolean;
}

/** Where keys are kept. To look at either may throw. */
export interface Stores {
  tab: () => Storage;
  device: () => Storage;
}

const STORES: Stores = { tab: () => sessionStorage, device: () => localStorage };
const nameOf = (className: string): string => `lectern.key.${className}`;

function guarded<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch {
    return undefined;
  }
}

/** The key in a link's fragment, which browsers send to nobody. */
export function keyOfFragment(fragment: string): string | undefined {
  const key = new URLSearchParams(fragment.replace(/^#/, '')).get('key');
  return key === null ? undefined : readKey(key);
}

/** What somebody has entered, as a header can carry it; nothing if no key can look like this. */
export function readKey(entered: string): string | undefined {
  const key = entered.normalize('NFKC').replace(/[\s\p{Cf}]/gu, '');
  return /^[!-~]{1,128}$/.test(key) ? key : undefined;
}

/** Takes the key out of the address bar, and out of the history. */
export function takeKey(): string | undefined {
  if (!/[#&]key=/.test(location.hash)) return undefined;
  const key = keyOfFragment(location.hash);
  history.replaceState(history.state, '', location.pathname + location.search);
  return key;
}

export function recallKey(className: string, { tab, device }: Stores = STORES): KeptKey | undefined {
  const name = nameOf(className);
  const remembered = guarded(() => device().getItem(name)) ?? undefined;
  const key = guarded(() => tab().getItem(name)) ?? remembered;
  return key === undefined ? undefined : { key, isRemembered: remembered !== undefined };
}

/** In this tab, and on this device if that is wanted; where storage is blocked, nowhere. */
export function keepKey(
  className: string,
  { key, isRemembered }: KeptKey,
  { tab, device }: Stores = STORES,
): void {
  const name = nameOf(className);
  guarded(() => tab().setItem(name, key));
  guarded(() => (isRemembered ? device().setItem(name, key) : device().removeItem(name)));
}

export function forgetKey(className: string, { tab, device }: Stores = STORES): void {
  const name = nameOf(className);
  guarded(() => tab().removeItem(name));
  guarded(() => device().removeItem(name));
}
