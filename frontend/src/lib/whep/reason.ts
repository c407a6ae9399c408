import { Refused } from '../api/request';

/** Why the page is in a state, where that helps. */
export type Reason =
  | 'unknown_class'
  | 'pin_needed'
  | 'pin_wrong'
  | 'pin_unusable'
  | 'pin_attempts'
  | 'pin_again'
  | 'forbidden'
  | 'token'
  | 'server'
  | 'error'
  | 'rate_limited'
  | 'no_node'
  | 'full'
  | 'busy'
  | 'browser'
  | 'network'
  | 'silent';

/** The codes of docs/api.md that people are told of. */
const OF_CODES = new Map<string | undefined, Reason>([
  ['rate_limited', 'rate_limited'],
  ['no_node', 'no_node'],
  ['node_full', 'full'],
  ['nodes_full', 'full'],
  ['node_draining', 'busy'],
  ['node_busy', 'busy'],
  ['offer_unusable', 'browser'],
]);

/** A proxy's 502, 503 and 504 say that the server behind it is not there. */
export function isGone({ status, code }: Refused): boolean {
  return code === undefined && [502, 503, 504].includes(status);
}

/** What a request that failed says of the server. */
export function reasonOf(error: unknown): Reason {
  if (!(error instanceof Refused)) return 'server';
  const { status, code } = error;
  if (isGone(error)) return 'server';
  return OF_CODES.get(code) ?? (status === 429 ? 'rate_limited' : 'error');
}
