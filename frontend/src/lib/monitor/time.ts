const SHORT: Intl.DateTimeFormatOptions = { hour: '2-digit', minute: '2-digit' };

/** The time of the day, as people here write it. */
export const clockTime = (ms: number): string => new Date(ms).toLocaleTimeString([], SHORT);
export const exactTime = (ms: number): string =>
  new Date(ms).toLocaleTimeString([], { ...SHORT, second: '2-digit' });

export const minutesSince = (ms: number, now: number): number => Math.max(0, Math.floor((now - ms) / 60_000));
