import { Refused, request } from '../api/request';

/** What an app needs, apart from the key. */
export interface PublishInfo {
  class: string;
  /** The name of the class for people. */
  name: string;
  /** Addresses for an app, the best first. */
  servers: string[];
}

const header = (key: string): Record<string, string> => ({ 'X-Stream-Key': key });
const path = (className: string): string => `/api/v1/classes/${encodeURIComponent(className)}`;

/** Where the teacher of a class sends the lesson. */
export async function publishInfo(className: string, key: string): Promise<PublishInfo> {
  const response = await request(`${path(className)}/publish-info`, {
    headers: header(key),
    cache: 'no-store',
  });
  if (!response.ok) throw await Refused.from(response);
  return (await response.json()) as PublishInfo;
}

/** Makes another key in place of this one, which is void at once. */
export async function replaceKey(className: string, key: string): Promise<string> {
  const response = await request(`${path(className)}/stream-key/rotate`, {
    method: 'POST',
    headers: header(key),
  });
  if (!response.ok) throw await Refused.from(response);
  return ((await response.json()) as { stream_key: string }).stream_key;
}

export const isSecure = (server: string): boolean => server.startsWith('rtmps:');

/** The host of a server's address. Older browsers take only addresses apart whose scheme they know. */
export function hostOf(server: string): string {
  try {
    return new URL(server.replace(/^rtmps?:/, 'http:')).hostname;
  } catch {
    return '';
  }
}

/** Whether this host is the device itself. */
export function isOwnDevice(host: string): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host.startsWith('127.') || host === '[::1]';
}

const PRIVATE_IPV4 =
  /^(10\.|127\.|169\.254\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.)/;
const PRIVATE_IPV6 = /^\[(::1|f[cd][0-9a-f]{2}:.*|fe[89ab][0-9a-f]:.*)\]$/i;
const PRIVATE_NAME = /(^localhost|\.(localhost|local|lan|internal|home\.arpa))$/i;

/** Whether a host is one that no public authority gives certificates for, so that its own is one that phones refuse. */
export function isPrivateHost(host: string): boolean {
  if (/^[\d.]+$/.test(host)) return PRIVATE_IPV4.test(host);
  if (host.startsWith('[')) return PRIVATE_IPV6.test(host);
  return PRIVATE_NAME.test(host) || !host.includes('.');
}

/** The server that most apps can send to. */
export function preferredServer(servers: readonly string[]): string | undefined {
  const isNear = servers.some((server) => isPrivateHost(hostOf(server)));
  return servers.find((server) => isSecure(server) !== isNear) ?? servers[0];
}

/** What an app sends that is set up from here: sharp enough for a board, and little enough for a phone's upload. */
const ENCODER: readonly (readonly [name: string, value: string])[] = [
  ['enc[vid][res]', '1280x720'],
  ['enc[vid][fps]', '30'],
  ['enc[vid][bitrate]', '1500'],
  ['enc[vid][format]', 'avc'],
  ['enc[vid][keyframe]', '1'],
  ['enc[aud][channels]', '1'],
];

/** The link that sets up Larix (https://softvelum.com/larix/grove). Its documents leave brackets as they are. */
export function larixLink(server: string, key: string, className: string): string {
  const settings: readonly (readonly [name: string, value: string])[] = [
    ['conn[][url]', `${server}/${key}`],
    ['conn[][name]', className],
    ['conn[][overwrite]', 'on'],
    ['conn[][active]', 'on'],
    ['conn[][mode]', 'av'],
    ...ENCODER,
  ];
  return `larix://set/v1?${settings.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&')}`;
}
