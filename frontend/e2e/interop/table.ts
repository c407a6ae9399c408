import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { ROOT, type Row, rows } from './report';

/** `make test-interop` copies it to `docs/interop.md` when everything went as expected. */
const TABLE = join(ROOT, 'target', 'interop', 'interop.md');

/** The commit that is tried: a run takes minutes, in which others may follow. */
let tried = '';

export function setup(): void {
  tried = commit();
  mkdirSync(join(TABLE, '..'), { recursive: true });
}

/** After a run: the table of every row there is, those of earlier runs included. */
export function teardown(): void {
  writeFileSync(TABLE, document());
}

function document(): string {
  const today = new Date().toISOString().slice(0, 10);
  return `# What plays with what

Made by \`make test-interop\` on ${today}, and not by hand: other people's programs against Lectern at commit ${tried}, on
${distribution()}, Linux ${kernel()}, over loopback, in a debug build.

A result is of what was decoded: a picture is one when many different frames of the right size came out of a decoder, a sound
when its samples have the publisher's energy. Being connected is nothing.

## Publishers

What a viewer gets of a lesson that the program publishes. The time is from the program's start to the first picture that a
viewer decoded.

${table('publisher')}

## Players

What the program makes of a lesson of ffmpeg's, H.264 baseline at 640x360 with AAC, over WHEP. The time is from the POST to the
first decoded picture, or sound where there is no picture; for pion and werift, whose files ffmpeg decodes afterwards, to the last
packet of the first picture.

${table('player')}
`;
}

function table(kind: Row['kind']): string {
  const found = rows(kind);
  if (found.length === 0) return 'None was tried.';
  const lines = found.map((row) => {
    const first = row.firstFrameMs === undefined ? '' : `${Math.round(row.firstFrameMs)} ms`;
    return line([row.name, row.version, row.result, first, row.note ?? '']);
  });
  return [
    line(['program', 'version', 'result', 'first', 'remark']),
    line(Array(5).fill('---')),
    ...lines,
  ].join('\n');
}

function line(cells: string[]): string {
  return `| ${cells.map((cell) => cell.replace(/\s+/g, ' ').replaceAll('|', '\\|')).join(' | ')} |`;
}

/** What was tried: the commit, and whether anything but the table differs from it. */
function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  const changes = git('status', '--porcelain', '--', '.', ':!docs/interop.md');
  return git('rev-parse', '--short', 'HEAD') + (changes === '' ? '' : ' with changes');
}

/** Of 6.18.44-whatever: 6.18. */
function kernel(): string {
  return release().split('.').slice(0, 2).join('.');
}

/** What the machine calls itself (os-release(5)). */
function distribution(): string {
  const file = '/etc/os-release';
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return /^PRETTY_NAME="?(.*?)"?$/m.exec(text)?.[1] ?? 'an unknown distribution';
}
