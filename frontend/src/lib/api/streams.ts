import { Refused, request } from './request';

/** The fields of `GET /api/v1/streams` that the page looks at. */
interface Stream {
  class: string;
  state: string;
}

/** The classes whose lesson is live; nothing if the server does not name its classes to everybody. */
export async function liveClasses(): Promise<string[] | undefined> {
  const response = await request('/api/v1/streams');
  if (response.status === 403) return undefined;
  if (!response.ok) throw await Refused.from(response);
  const streams = (await response.json()) as Stream[];
  return streams.filter((stream) => stream.state === 'active').map((stream) => stream.class);
}
