import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Host } from './namespaces';
import { RESULTS } from './results';

/** How much of a log is quoted in an error: the last lines are where programs say why they left. */
const TAIL_CHARS = 2_000;

/** How long a program may take over a polite SIGTERM before it is killed. */
const LEAVE_MS = 3_000;

let started = 0;

/** A program under test: its output goes to a file of its own, and it never outlives its owner. */
export class Child {
  readonly log: string;
  /** Settles when the program is gone, with what it left behind. Never rejects. */
  readonly exited: Promise<string>;
  readonly #process: ChildProcess;
  #gone = false;

  /** Starts the program, on `host` when there is one. */
  constructor(command: string, args: readonly string[], host?: Host) {
    started += 1;
    this.log = join(RESULTS, `${process.pid}-${started}-${basename(command)}.log`);
    const output = openSync(this.log, 'w');
    const [program, all] = host?.within(command, args) ?? [command, args];
    this.#process = spawn(program, all, { stdio: ['ignore', output, output] });
    closeSync(output);
    this.exited = new Promise((resolve) => {
      const leave = (how: string) => {
        this.#gone = true;
        resolve(`${basename(command)} ${how}\n${this.tail()}`);
      };
      this.#process.once('error', (error) => leave(`did not start: ${error.message}`));
      this.#process.once('exit', (code, signal) => leave(`left with ${signal ?? `status ${code}`}`));
    });
    // A test run that dies must not leave encoders behind. The listener goes with the child.
    const reap = () => this.#process.kill('SIGKILL');
    process.once('exit', reap);
    void this.exited.then(() => process.off('exit', reap));
  }

  get pid(): number {
    if (this.#process.pid === undefined) throw new Error(`${this.#process.spawnfile} has no process`);
    return this.#process.pid;
  }

  get running(): boolean {
    return !this.#gone;
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** SIGKILL, and waits until the process is gone: what a power cut looks like to everybody else. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.exited;
  }

  /** SIGTERM, then SIGKILL when that is not heeded. Answers in how many milliseconds the program left. */
  async stop(): Promise<number> {
    const asked = performance.now();
    this.signal('SIGTERM');
    const impatience = setTimeout(() => this.signal('SIGKILL'), LEAVE_MS);
    await this.exited;
    clearTimeout(impatience);
    return performance.now() - asked;
  }

  /** The end of the program's output. */
  tail(): string {
    try {
      return readFileSync(this.log, 'utf8').slice(-TAIL_CHARS);
    } catch {
      // Somebody tidied up while the program ran. That must not keep anybody from learning that it left.
      return `(${this.log} is gone)`;
    }
  }

  /** Resident memory in bytes (proc_pid_status(5), `VmRSS`). */
  residentBytes(): number {
    return this.#statusBytes('VmRSS');
  }

  /** The most resident memory that the process ever had (`VmHWM`). */
  peakResidentBytes(): number {
    return this.#statusBytes('VmHWM');
  }

  #statusBytes(field: string): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    const kilobytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
    if (kilobytes === undefined) throw new Error(`no ${field} for ${this.pid}`);
    return Number(kilobytes) * 1_024;
  }
}
