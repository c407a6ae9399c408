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

/**
 * The `application/trickle-ice-sdpfrag` body of an ICE restart (RFC 8840, section 9). Credentials at the session level are
 * those of every section, and without candidates no section needs to be named.
 */
export function writeFragment({ ufrag, pwd }: Credentials): string {
  return `a=ice-ufrag:${ufrag}\r\na=ice-pwd:${pwd}\r\n`;
}

/** The description of a peer after an ICE restart: the old one with the fragment's credentials. */
export function applyRestart(sdp: string, fragment: string): string {
  const credentials = credentialsOf(fragment);
  if (credentials === undefined) throw new Error('the fragment has no credentials');
  return sdp
    .replace(/^a=ice-ufrag:.*$/gm, `a=ice-ufrag:${credentials.ufrag}`)
    .replace(/^a=ice-pwd:.*$/gm, `a=ice-pwd:${credentials.pwd}`);
}
