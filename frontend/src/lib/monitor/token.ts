import { Refused, request } from '../api/request';
import type { Token } from '../api/token';
import { AccessDenied } from '../whep/types';
import { headersOf } from './secret';

/** A token for looking at a class, at another node than `exclude` if there is one. */
export async function monitorToken(
  className: string,
  userId: string,
  secret: string | undefined,
  exclude: string | undefined,
): Promise<Token> {
  const query = new URLSearchParams({
    user_type: 'monitor',
    user_id: userId,
    class_id: className,
    wait: '1',
  });
  if (exclude !== undefined) query.set('exclude', exclude);
  const response = await request(`/api/token?${query}`, { method: 'POST', headers: headersOf(secret) });
  if (response.ok) return (await response.json()) as Token;
  const refused = await Refused.from(response);
  // Where no other node is, the one that seemed lost is the best there is.
  if (refused.status === 503 && exclude !== undefined)
    return monitorToken(className, userId, secret, undefined);
  if (refused.code === 'no_class') throw new AccessDenied('unknown_class');
  if (refused.status === 401 || refused.status === 403) throw new AccessDenied('forbidden');
  throw refused;
}
