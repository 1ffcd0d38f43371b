/** Runs programs to their end: with a timeout, line by line, and with cancellation. */

import { spawn } from 'node:child_process';
import { delimiter, isAbsolute } from 'node:path';
import { createInterface } from 'node:readline';

import type * as vscode from 'vscode';

/** The result of a program. */
export interface Ended {
  /** Exit status, or null when it was ended by a signal or could not be started. */
  readonly status: number | null;
  readonly output: string;
  /** The text of its standard error stream. */
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
    const own = { PYTHONUTF8: '1', PYTHONUNBUFFERED: '1', ...options.environment };
    const env = withoutCurrentFolder({ ...process.env, ...own });
    const windows = process.platform === 'win32';
    // A process group of its own, so that its children end with it.
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

/**
 * Returns the environment without entries of PYTHONPATH that stand for whatever the current folder is. Python runs a
 * `sitecustomize.py` that it finds there.
 */
export function withoutCurrentFolder(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { PYTHONPATH: path, ...others } = environment;
  const kept = (path ?? '').split(delimiter).filter((entry) => isAbsolute(entry));
  return kept.length > 0 ? { ...others, PYTHONPATH: kept.join(delimiter) } : others;
}

function signalGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGTERM');
  } catch {
    // It has ended meanwhile.
  }
}

/** Returns the last line that is not blank: most often the error of a program that failed. */
export function lastLine(ended: Ended): string {
  const lines = `${ended.output}\n${ended.errors}`.split(/\r?\n/).map((line) => line.trim());
  return lines.filter((line) => line !== '').at(-1) ?? 'It said nothing.';
}
