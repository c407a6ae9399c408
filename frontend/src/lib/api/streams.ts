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

/** What is wrong with the stream of a class, in sentences for the teacher; nothing if nobody publishes. */
export async function problemsOf(className: string, pin: string | undefined): Promise<string[]> {
  const headers: Record<string, string> = pin === undefined ? {} : { 'X-Class-Pin': pin };
  const response = await request(`/api/v1/streams/${encodeURIComponent(className)}`, { headers });
  if (response.status === 404) return [];
  if (!response.ok) throw await Refused.from(response);
  const { problems } = (await response.json()) as { problems: { text: string }[] };
  return problems.map(({ text }) => text);
}
