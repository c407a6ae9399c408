// A page that plays as the README of @binbat/whip-whep says.
import { WHEPClient } from '@binbat/whip-whep/whep.js';

window.play = async (url) => {
  const connection = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
  connection.addTransceiver('audio');
  connection.addTransceiver('video');
  connection.ontrack = (event) => {
    if (event.track.kind === 'video') document.querySelector('video').srcObject = event.streams[0];
  };
  const whep = new WHEPClient();
  await whep.view(connection, url);
};
