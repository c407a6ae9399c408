import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Child } from '../harness/child';
import { until } from '../harness/until';
import { filmFolder, FRAMES_PER_SECOND, SIZE } from './publishers';

/** Names of OBS's profile and of its scene collection. */
const NAME = 'lesson';

/** What a user has changed in OBS's settings. */
export interface Settings {
  /** Sections of the profile's `basic.ini` beside those for size, rate and mode. */
  profile: Record<string, Record<string, string>>;
  /** Settings of the encoder in advanced mode: the profile's `streamEncoder.json`. */
  encoder?: Record<string, string | number>;
}

/** A screen that nobody sees, and OBS with a HOME of its own. */
export class Desktop {
  static async open(keep: (child: Child) => Child): Promise<Desktop> {
    const { folder, film } = filmFolder();
    const screen = keep(
      new Child('Xvfb', ['-displayfd', '1', '-screen', '0', '1024x768x24', '-nolisten', 'tcp']),
    );
    const display = await until('a screen', () => {
      // The number of the display is the only line that is nothing but a number.
      const number = /^(\d+)$/m.exec(readFileSync(screen.log, 'utf8'))?.[1];
      return number === undefined ? undefined : `:${number}`;
    });
    return new Desktop(folder, film, display);
  }

  private constructor(
    readonly home: string,
    private readonly film: string,
    private readonly display: string,
  ) {}

  /** Writes the files that OBS would have written after a first start, and presses "Start Streaming". */
  stream(server: string, key: string, settings: Settings): Child {
    const basic = join(this.home, '.config', 'obs-studio', 'basic');
    const profile = join(basic, 'profiles', NAME);
    const [scenes, runtime] = [join(basic, 'scenes'), join(this.home, 'run')];
    for (const folder of [profile, scenes, runtime]) mkdirSync(folder, { recursive: true, mode: 0o700 });
    // Without the first two OBS greets with the wizard and with what is new.
    const general = { FirstRun: 'true', InfoIncrement: '99', EnableAutoUpdates: 'false' };
    const chosen = { Profile: NAME, ProfileDir: NAME, SceneCollection: NAME, SceneCollectionFile: NAME };
    write(join(basic, '..', 'global.ini'), ini({ General: general, Basic: chosen }));
    write(join(profile, 'basic.ini'), ini({ ...picture(), ...settings.profile }));
    const service = { type: 'rtmp_custom', settings: { server, key, use_auth: false } };
    write(join(profile, 'service.json'), JSON.stringify(service));
    if (settings.encoder !== undefined)
      write(join(profile, 'streamEncoder.json'), JSON.stringify(settings.encoder));
    write(join(scenes, `${NAME}.json`), JSON.stringify(scene(this.film)));
    // It asks its makers for a newer list of services, and is to reach nobody but the server.
    const proxy = 'https_proxy=http://127.0.0.1:9';
    const place = [`HOME=${this.home}`, `XDG_RUNTIME_DIR=${runtime}`, `DISPLAY=${this.display}`];
    return new Child('env', [
      ...[...place, 'LIBGL_ALWAYS_SOFTWARE=1', proxy],
      ...['obs', '--startstreaming', '--multi', '--profile', NAME, '--collection', NAME],
      ...['--disable-updater', '--disable-missing-files-check'],
    ]);
  }
}

function picture(): Settings['profile'] {
  const [width, height] = [String(SIZE.width), String(SIZE.height)];
  const size = { BaseCX: width, BaseCY: height, OutputCX: width, OutputCY: height };
  return {
    General: { Name: NAME },
    Video: { ...size, FPSType: '0', FPSCommon: String(FRAMES_PER_SECOND) },
  };
}

/** A scene with a film that begins again at its end. */
function scene(film: string): object {
  const media = { local_file: film, looping: true };
  const item = { name: 'Film', id: 1, visible: true, pos: { x: 0, y: 0 }, scale: { x: 1, y: 1 } };
  const sources = [
    { id: 'ffmpeg_source', name: 'Film', mixers: 255, volume: 1, settings: media },
    { id: 'scene', name: 'Scene', settings: { id_counter: 1, custom_size: false, items: [item] } },
  ];
  const current = { current_scene: 'Scene', current_program_scene: 'Scene' };
  return { name: NAME, ...current, scene_order: [{ name: 'Scene' }], sources };
}

function ini(sections: Record<string, Record<string, string>>): string {
  const section = ([name, values]: [string, Record<string, string>]) =>
    [`[${name}]`, ...Object.entries(values).map(([key, value]) => `${key}=${value}`), ''].join('\n');
  return Object.entries(sections).map(section).join('\n');
}

function write(path: string, text: string): void {
  writeFileSync(path, text);
}
