import type { State } from './lib/whep/player';
import type { Reason } from './lib/whep/reason';
import type { Pictureless } from './lib/whep/stats';

/** Everything that the page says, in one place. */
export const strings = {
  title: 'Lectern',
  tagline: 'Live lessons, a blink behind the teacher.',
  liveNow: 'Live now',
  nothingLive: 'No lesson is live at the moment.',
  notListed: 'The server cannot list the lessons at the moment.',
  openClass: 'Open a class',
  className: 'Name of the class',
  open: 'Open',
  live: 'LIVE',
  unmute: 'Tap for sound',
  start: 'Tap to start',
  mute: 'Mute',
  unmuteShort: 'Unmute',
  play: 'Play',
  pause: 'Pause',
  volume: 'Volume',
  pictureInPicture: 'Picture in picture',
  fullScreen: 'Full screen',
  screenshot: 'Screenshot',
  stats: 'Statistics',
  latency: 'Delay',
  smooth: 'Smooth',
  low: 'Lowest',
  pictureless: {
    soundOnly: 'This lesson is sound only.',
    notShown: 'The picture is not there yet, or this device cannot show it.',
    noH264:
      'This browser does not play H.264, so there is only the sound. Another browser shows the picture, if there is one.',
  } satisfies Record<Pictureless, string>,
  problems: 'For the teacher: something is wrong with what the app sends.',
  pin: 'PIN of the class',
  enter: 'Enter',
  pinWait: (seconds: number) =>
    seconds === 1 ? 'You can try again in 1 second.' : `You can try again in ${seconds} seconds.`,
  states: {
    starting: 'Opening the lesson…',
    waiting: 'Waiting for the teacher. The lesson starts here by itself.',
    connecting: 'Connecting…',
    live: 'Live',
    reconnecting: 'Connection lost. Reconnecting…',
    denied: 'You may not watch this class.',
  } satisfies Record<State, string>,
  reasons: {
    unknown_class: 'There is no class with this name. Ask your teacher for the link.',
    pin_needed: 'This class asks for its PIN.',
    pin_wrong: 'The PIN or the name of the class is wrong.',
    pin_unusable:
      'A PIN has only digits, the letters A to Z and signs, 64 at most. Look at what you have entered.',
    pin_attempts: 'Too many wrong PINs have been entered.',
    pin_again: 'You can try again now.',
    forbidden: 'The server does not let you into this class. Ask your teacher.',
    token: 'The server does not accept the permission of this page. Trying again…',
    server: 'The server does not answer. It may be restarting.',
    error: 'The server answers with an error. Trying again…',
    rate_limited: 'Too many requests come from your network. Trying again…',
    no_node: 'The server is up but cannot show lessons yet. Trying again…',
    full: 'The server is full. Trying again…',
    busy: 'The server is busy. Trying again…',
    browser: 'This browser cannot play the lesson. Another one may.',
    network:
      'No media gets through. The network may block UDP; another network or a VPN switched off can help.',
    silent: 'No picture and no sound are coming in at the moment. Trying again…',
  } satisfies Record<Reason, string>,
};
