import { spawnSync } from 'node:child_process';

/** The first line in which a program says its version, or `undefined` when it is not installed. */
export function versionOf(command: string, args: readonly string[] = ['--version']): string | undefined {
  const { error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined) return undefined;
  return /\s(\d+(\.\d+)+\S*)/.exec(`${stdout}\n${stderr}`)?.[1];
}

/** Whether a program can be started at all. */
export function isInstalled(command: string): boolean {
  return spawnSync('which', [command]).status === 0;
}

/** Whether GStreamer has an element. */
export function hasElement(name: string): boolean {
  return spawnSync('gst-inspect-1.0', ['--exists', name]).status === 0;
}

/** Runs a command to its end and answers what it printed; an error with the same when it fails. */
export function run(command: string, args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} left with status ${status}\n${stdout}${stderr}`);
  return stdout;
}
