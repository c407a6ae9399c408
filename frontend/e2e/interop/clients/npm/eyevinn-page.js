// A page that plays as the README of @eyevinn/webrtc-player says, but for the STUN server: there is none.
import { WebRTCPlayer } from '@eyevinn/webrtc-player';

window.play = async (url) => {
  const video = document.querySelector('video');
  const player = new WebRTCPlayer({
    video,
    type: 'whep',
    iceServers: [],
    statsTypeFilter: '^candidate-*|^inbound-rtp',
  });
  await player.load(new URL(url));
  player.unmute();
};
