/** Credentials as a session description states them. */
export interface Credentials {
  ufrag: string;
  pwd: string;
}

/** The ICE credentials of a description; the bundle has one pair, so the first counts. */
export function credentialsOf(sdp: string): Credentials | undefined {
  const ufrag = /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1];
  const pwd = /^a=ice-pwd:(\S+)/m.exec(sdp)?.[1];
  return ufrag === undefined || pwd === undefined ? undefined : { ufrag, pwd };
}

/** An `application/trickle-ice-sdpfrag` body (RFC 8840). */
export function writeFragment(
  credentials: Credentials,
  mid: string,
  candidates: readonly string[],
  isComplete: boolean,
): string {
  const lines = [`a=ice-ufrag:${credentials.ufrag}`, `a=ice-pwd:${credentials.pwd}`];
  lines.push(
    'm=audio 9 UDP/TLS/RTP/SAVPF 0',
    `a=mid:${mid}`,
    ...candidates.map((candidate) => `a=${candidate}`),
  );
  if (isComplete) lines.push('a=end-of-candidates');
  return lines.map((line) => `${line}\r\n`).join('');
}

/** The description of a peer after an ICE restart: the old one with the fragment's credentials and candidates. */
export function applyRestart(sdp: string, fragment: string): string {
  const credentials = credentialsOf(fragment);
  if (credentials === undefined) throw new Error('the fragment has no credentials');
  return sdp
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${credentials.ufrag}`)
    .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${credentials.pwd}`);
}
