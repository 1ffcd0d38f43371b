/** Running programs to their end: with a limit of time, line by line, and ended when nobody wants them any more. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import type * as vscode from 'vscode';

/** How a program ended. */
export interface Ended {
  /** Exit status, or null when it was ended by a signal or could not be started. */
  readonly status: number | null;
  readonly output: string;
  /** What it wrote to its standard error stream. */
  readonly errors: string;
}

export interface RunOptions {
  readonly cwd: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly milliseconds?: number;
  readonly token?: vscode.CancellationToken;
  /** Called with each line that the program writes, on either stream. */
  readonly onLine?: (line: string) => void;
}

/** Runs a program and waits for its end. Never rejects. */
export function run(command: readonly string[], options: RunOptions): Promise<Ended> {
  return new Promise((resolve) => {
    const [program = '', ...rest] = command;
    const env = { ...process.env, PYTHONUTF8: '1', PYTHONUNBUFFERED: '1', ...options.environment };
    const windows = process.platform === 'win32';
    // A group of its own, so that what it started ends with it.
    const child = spawn(program, rest, { cwd: options.cwd, env, detached: !windows, windowsHide: true });
    child.stdin.on('error', () => undefined).end();
    let output = '';
    let errors = '';
    let done = false;
    const end = () => {
      if (done || child.pid === undefined) return;
      if (windows) spawn('taskkill', ['/pid', child.pid.toString(), '/t', '/f'], { windowsHide: true });
      else signalGroup(child.pid);
    };
    const timer = options.milliseconds === undefined ? undefined : setTimeout(end, options.milliseconds);
    const cancelled = options.token?.onCancellationRequested(end);
    const finish = (status: number | null) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      cancelled?.dispose();
      resolve({ status, output, errors });
    };
    child.stdout.setEncoding('utf8').on('data', (data: string) => (output += data));
    child.stderr.setEncoding('utf8').on('data', (data: string) => (errors += data));
    if (options.onLine) {
      createInterface({ input: child.stdout }).on('line', options.onLine);
      createInterface({ input: child.stderr }).on('line', options.onLine);
    }
    child.on('error', (error) => {
      errors += error.message;
      finish(null);
    });
    child.on('close', finish);
  });
}

function signalGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGTERM');
  } catch {
    // It has ended meanwhile.
  }
}

/** The last line that says something; what a program that failed most often ends with. */
export function lastLine(ended: Ended): string {
  const lines = `${ended.output}\n${ended.errors}`.split(/\r?\n/).map((line) => line.trim());
  return lines.filter((line) => line !== '').at(-1) ?? 'It said nothing.';
}
