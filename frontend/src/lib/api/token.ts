import { Refused, request } from './request';

/** The answer of `POST /api/token`. */
export interface Token {
  token: string;
  /** The WHEP endpoint with the token in its query. */
  webrtc_url: string;
  /** The same for other players, where they need no token: a link beside the answer. */
  openUrl?: string;
  expires_in: number;
}

/** What lets somebody into a class where not everybody is. */
export interface Proof {
  pin?: string | undefined;
  /** Of the teacher. */
  streamKey?: string | undefined;
}

/** The headers that a proof travels in. */
export function headersOf({ pin, streamKey }: Proof): Record<string, string> {
  return {
    ...(pin === undefined ? {} : { 'X-Class-Pin': pin }),
    ...(streamKey === undefined ? {} : { 'X-Stream-Key': streamKey }),
  };
}

/** Asks for a token for watching a class, also before its lesson begins. */
export async function requestToken(
  className: string,
  userId: string,
  proof: Proof,
  place: { hint?: string | undefined; exclude?: string | undefined } = {},
): Promise<Token> {
  const query = new URLSearchParams({
    user_type: proof.streamKey === undefined ? 'student' : 'teacher',
    user_id: userId,
    class_id: className,
    wait: '1',
  });
  if (place.hint !== undefined) query.set('hint', place.hint);
  if (place.exclude !== undefined) query.set('exclude', place.exclude);
  const response = await request(`/api/token?${query}`, { method: 'POST', headers: headersOf(proof) });
  if (!response.ok) throw await Refused.from(response);
  const openUrl = /<([^>]+)>; rel="alternate"/.exec(response.headers.get('Link') ?? '')?.[1];
  const token = (await response.json()) as Token;
  return openUrl === undefined ? token : { ...token, openUrl };
}

/** The node that a token was issued for, as its payload names it. */
export function nodeOf({ token }: Token): string | undefined {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const { node } = JSON.parse(atob(payload)) as { node?: unknown };
    return typeof node === 'string' ? node : undefined;
  } catch {
    return undefined;
  }
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

/**
 * A random id that this browser keeps, so that attendance counts a student once. Where storage is blocked or full, to look
 * at it may throw; then the id is the page's alone.
 */
export function ownUserId(storage: () => Storage): string {
  const made = `web-${Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36)).join('')}`;
  try {
    const known = storage().getItem('lectern.user');
    if (known === null) storage().setItem('lectern.user', made);
    return known ?? made;
  } catch {
    return made;
  }
}
