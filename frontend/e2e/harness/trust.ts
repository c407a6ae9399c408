import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary } from './server';

/** A folder with a certificate of `lectern tls init`, and the home of somebody who trusts its authority. */
export class Authority {
  readonly #folder = mkdtempSync(join(tmpdir(), 'lectern-tls-'));

  constructor() {
    this.renew();
    const database = this.#database;
    mkdirSync(database, { recursive: true });
    // Chromium on Linux takes authorities from the NSS database of its user.
    certutil('-N', '--empty-password', '-d', `sql:${database}`);
    const ca = join(this.#folder, 'ca.pem');
    certutil('-A', '-d', `sql:${database}`, '-n', 'lectern', '-t', 'C,,', '-i', ca);
  }

  /** The text of a `lectern.toml` with the certificate. */
  get config(): string {
    const [cert, key] = ['cert.pem', 'key.pem'].map((name) => join(this.#folder, name));
    return `[tls]\ncert = '${cert}'\nkey = '${key}'\n`;
  }

  /** A home directory for Chromium. */
  get home(): string {
    return join(this.#folder, 'home');
  }

  get #database(): string {
    return join(this.home, '.pki', 'nssdb');
  }

  /** Replaces the certificate by a new one of the same authority. */
  renew(): void {
    execFileSync(binary(), ['tls', 'init', '--data-dir', this.#folder], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  dispose(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function certutil(...args: string[]): void {
  execFileSync('certutil', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
