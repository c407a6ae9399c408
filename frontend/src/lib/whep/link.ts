/** What a `Link` header (RFC 8288) says of one address. */
type Link = [url: string, parameters: Map<string | undefined, string | undefined>];

function linksOf(header: string | null): Link[] {
  const found = (header ?? '').matchAll(/<([^>]+)>((?:\s*;\s*[\w-]+="[^"]*")*)/g);
  return [...found].map(([, url, parameters]) => [
    url ?? '',
    new Map([...(parameters ?? '').matchAll(/([\w-]+)="([^"]*)"/g)].map(([, k, v]) => [k, v])),
  ]);
}

/** The ICE servers of a `Link` header (RFC 9725, section 4.6). */
export function iceServersOf(header: string | null): RTCIceServer[] {
  const servers = linksOf(header).filter(([, named]) => named.get('rel') === 'ice-server');
  return servers.map(([urls, named]) => {
    const [username, credential] = [named.get('username'), named.get('credential')];
    return {
      urls,
      ...(username === undefined ? {} : { username }),
      ...(credential === undefined ? {} : { credential }),
    };
  });
}

/** Where a session tells of its events (WHEP's extension for server-sent events), if it does. */
export function eventsUrlOf(header: string | null): string | undefined {
  const rel = 'urn:ietf:params:whep:ext:core:server-sent-events';
  return linksOf(header).find(([, named]) => named.get('rel') === rel)?.[0];
}
