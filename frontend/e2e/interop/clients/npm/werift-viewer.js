/**
 * Watches a lesson by WHEP with werift, WebRTC in TypeScript alone, and keeps what arrives with werift's own recorder.
 * Whoever decodes the file judges it.
 *
 * Usage: node werift-viewer.js FILE.webm WHEP_URL TOKEN. Prints one line, RESULT and JSON.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { RTCPeerConnection, useH264, useOPUS } from 'werift';
import { MediaRecorder } from 'werift/nonstandard';

/** How long it watches, once it is connected. */
const WATCHED_MS = 5_000;

const [file, url, token] = process.argv.slice(2);
const { version } = JSON.parse(
  readFileSync(new URL('node_modules/werift/package.json', import.meta.url), 'utf8'),
);

const connection = new RTCPeerConnection({
  // Without this werift offers VP8 alone.
  codecs: { video: [useH264()], audio: [useOPUS()] },
});
const tracks = [];
connection.connectionStateChange.subscribe((state) => console.log('connection:', state));
for (const kind of ['video', 'audio']) {
  const transceiver = connection.addTransceiver(kind, { direction: 'recvonly' });
  transceiver.onTrack.subscribe((track) => tracks.push(track));
}
await connection.setLocalDescription(await connection.createOffer());
console.log(connection.localDescription.sdp);

const posted = performance.now();
const response = await fetch(url, {
  method: 'POST',
  headers: { 'content-type': 'application/sdp', authorization: `Bearer ${token}` },
  body: connection.localDescription.sdp,
});
const answer = await response.text();
console.log(answer);
if (response.status !== 201) throw new Error(`the POST was answered ${response.status}`);
await connection.setRemoteDescription({ type: 'answer', sdp: answer });

const recorder = new MediaRecorder({ path: file, numOfTracks: 2, width: 640, height: 360 });
recorder.onError.subscribe((error) => console.error(error));
for (const track of tracks) await recorder.addTrack(track);
// The last packet of a picture has the marker.
const firstMs = await new Promise((resolve) => {
  const track = tracks.find(({ kind }) => kind === 'video');
  track.onReceiveRtp.subscribe(({ header }) => {
    if (header.marker) resolve(performance.now() - posted);
  });
});
await pause(WATCHED_MS);
await recorder.stop();
const left = await fetch(new URL(response.headers.get('location'), url), { method: 'DELETE' });
if (left.status !== 200) throw new Error(`the DELETE was answered ${left.status}`);
await connection.close();
console.log(`RESULT ${JSON.stringify({ version, firstMs: Math.round(firstMs) })}`);
