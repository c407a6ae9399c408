import { Refused, request } from '../api/request';
import { applyRestart, credentialsOf, writeFragment } from './fragment';
import { iceServersOf } from './link';

/** One WHEP session: a peer connection and the resource that stands for it on the server. */
export class WhepSession {
  readonly pc: RTCPeerConnection;
  readonly stream = new MediaStream();
  #resource: string | undefined;
  #answer = '';
  #isClosed = false;

  constructor(readonly onState: (state: RTCPeerConnectionState) => void) {
    this.pc = new RTCPeerConnection({ iceServers: [], bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.pc.addTransceiver('video', { direction: 'recvonly' });
    this.pc.addTransceiver('audio', { direction: 'recvonly' });
    this.pc.ontrack = ({ track }) => this.stream.addTrack(track);
    this.pc.onconnectionstatechange = () => this.onState(this.pc.connectionState);
  }

  /** Sends the offer at once. The server is ICE-lite: it needs no candidates of ours, checks reveal them. */
  async open(url: string, token: string): Promise<void> {
    await this.pc.setLocalDescription(stereo(await this.pc.createOffer()));
    const response = await request(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/sdp', Authorization: `Bearer ${token}` },
      body: this.pc.localDescription?.sdp ?? '',
    });
    if (response.status !== 201) throw await Refused.from(response);
    const location = response.headers.get('Location');
    if (location !== null) this.#resource = new URL(location, response.url).href;
    this.#answer = await response.text();
    if (this.#isClosed) return this.#delete();
    const iceServers = iceServersOf(response.headers.get('Link'));
    if (iceServers.length > 0) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  /** Whether the browser and the server have a picture's codec in common. */
  get takesPicture(): boolean {
    return this.pc
      .getTransceivers()
      .some(
        ({ receiver, currentDirection }) =>
          receiver.track.kind === 'video' && currentDirection === 'recvonly',
      );
  }

  /** The sound alone: of a stream with a picture an element plays nothing until the first picture. */
  sound(): MediaStream {
    return new MediaStream(this.stream.getAudioTracks());
  }

  /** Moves the session to another network path and keeps everything else (RFC 9725, section 4.3.3). */
  async restartIce(): Promise<void> {
    if (this.#resource === undefined) throw new Error('the session is not open');
    await this.pc.setLocalDescription(stereo(await this.pc.createOffer({ iceRestart: true })));
    const credentials = credentialsOf(this.pc.localDescription?.sdp ?? '');
    if (credentials === undefined) throw new Error('the offer has no credentials');
    const response = await request(this.#resource, {
      method: 'PATCH',
      headers: { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' },
      body: writeFragment(credentials),
    });
    if (response.status !== 200) throw await Refused.from(response);
    this.#answer = applyRestart(this.#answer, await response.text());
    await this.pc.setRemoteDescription({ type: 'answer', sdp: this.#answer });
  }

  /** Ends the session here and on the server, also while the page is going away. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.pc.onconnectionstatechange = null;
    this.pc.ontrack = null;
    this.pc.close();
    this.#delete();
  }

  #delete(): void {
    if (this.#resource === undefined) return;
    // A server that is gone has ended the session by itself.
    fetch(this.#resource, { method: 'DELETE', keepalive: true }).catch(() => undefined);
    this.#resource = undefined;
  }
}

/** Browsers decode Opus to one channel unless the offer says otherwise (RFC 7587, section 7.1). */
function stereo(offer: RTCSessionDescriptionInit): RTCSessionDescriptionInit {
  const sdp = (offer.sdp ?? '').replace(/(a=fmtp:\d+ minptime=10;useinbandfec=1)(?!;stereo)/g, '$1;stereo=1');
  return { ...offer, sdp };
}
