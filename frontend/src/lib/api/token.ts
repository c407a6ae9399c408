/** The answer of `POST /api/token`. */
export interface Token {
  token: string;
  /** The WHEP endpoint with the token in its query. */
  webrtc_url: string;
  expires_in: number;
}

/** An answer that is not a token. */
export class TokenRefused extends Error {
  constructor(
    readonly status: number,
    readonly retryAfterMs: number | undefined,
  ) {
    super(`token refused with ${status}`);
  }
}

/** Asks for a token for watching a class, also before its lesson begins. */
export async function requestToken(
  className: string,
  userId: string,
  pin: string | undefined,
): Promise<Token> {
  const query = new URLSearchParams({
    user_type: 'student',
    user_id: userId,
    class_id: className,
    wait: '1',
  });
  const headers: Record<string, string> = pin === undefined ? {} : { 'X-Class-Pin': pin };
  const response = await fetch(`/api/token?${query}`, { method: 'POST', headers });
  if (!response.ok) {
    const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
    throw new TokenRefused(response.status, Number.isFinite(seconds) ? seconds * 1000 : undefined);
  }
  return (await response.json()) as Token;
}

/**
 * The WHEP endpoint as the player uses it. The token in its query is for players that cannot send headers; ours sends it
 * as Bearer, so that it stands in no log and no history.
 */
export function endpoint(webrtcUrl: string, latency: 'smooth' | 'low'): string {
  const url = new URL(webrtcUrl);
  url.searchParams.delete('jwt');
  if (latency === 'low') url.searchParams.set('latency', 'low');
  return url.href;
}

/** A random id that this browser keeps, so that attendance counts a student once. */
export function ownUserId(storage: Storage): string {
  const known = storage.getItem('lectern.user');
  if (known !== null) return known;
  const made = `web-${Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36)).join('')}`;
  storage.setItem('lectern.user', made);
  return made;
}
