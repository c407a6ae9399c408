/** What this browser keeps for the page. Where storage is blocked, to look at it throws; then nothing is kept. */
export function recall(key: string): string | undefined {
  try {
    return localStorage.getItem(`lectern.${key}`) ?? undefined;
  } catch {
    return undefined;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`lectern.${key}`, value);
  } catch {
    // It is for this page only, then.
  }
}
