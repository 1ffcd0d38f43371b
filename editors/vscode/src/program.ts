/**
 * Finds the server's program: the first of the usual places that has one. A Python counts when it can import
 * codegen-lsp. Nothing in a workspace is run before the workspace is trusted.
 */

import { existsSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

import * as vscode from 'vscode';

import { ownSettings } from './configuration';
import { run } from './processes';

declare const CLONE: string;

/** Folder of the clone that this extension was made in, or an empty string. */
export const clone = CLONE;

/** A codegen-lsp that can be run. */
export interface Program {
  /** Command line to which `serve` or another command is added. */
  readonly command: readonly string[];
  /** Its origin, for the user. */
  readonly origin: string;
}

/** The reason why there is no program. */
export interface Missing {
  readonly reason: string;
}

const SECONDS = 20;
/** `-P`: without the folder in which the program is started. */
const MODULE = ['-P', '-m', 'codegen_lsp.cli'];

/** Looks for the server. `cwd` must be a folder without Python files, which would be imported. */
export async function findProgram(cwd: string, privatePython: string): Promise<Program | Missing> {
  const settings = ownSettings();
  if (settings.command.length > 0) {
    const serving = settings.command.at(-1) === 'serve';
    const command = serving ? settings.command.slice(0, -1) : settings.command;
    return { command, origin: 'the setting `codegen-lsp.server.command`' };
  }
  if (settings.python !== '') {
    const python = expandHome(settings.python);
    if (await hasServer(python, cwd)) {
      return { command: [python, ...MODULE], origin: 'the setting `codegen-lsp.server.python`' };
    }
    return { reason: `The Python of the setting codegen-lsp.server.python, ${python}, can't import codegen-lsp.` };
  }
  for (const [python, origin] of pythons(privatePython)) {
    if (await hasServer(python, cwd)) return { command: [python, ...MODULE], origin };
  }
  const onPath = which('codegen-lsp');
  if (onPath) return { command: [onPath], origin: '`PATH`' };
  for (const name of ['python3', 'python']) {
    const python = which(name);
    if (python && (await hasServer(python, cwd))) return { command: [python, ...MODULE], origin: '`PATH`' };
  }
  for (const python of clone === '' ? [] : [pythonOf(join(clone, '.venv'))]) {
    if (existsSync(python) && (await hasServer(python, cwd))) {
      return { command: [python, ...MODULE], origin: 'the clone that the extension was made in' };
    }
  }
  return { reason: 'No Python with codegen-lsp was found.' };
}

/** Returns true when this Python can import codegen-lsp. */
export async function hasServer(python: string, cwd: string): Promise<boolean> {
  const ended = await run([python, '-P', '-c', 'import codegen_lsp.cli'], { cwd, milliseconds: SECONDS * 1000 });
  return ended.status === 0;
}

/** Returns the Python of a virtual environment. */
export function pythonOf(environment: string): string {
  return process.platform === 'win32' ? join(environment, 'Scripts', 'python.exe') : join(environment, 'bin', 'python');
}

/** Returns true when there is a program of this path or name. */
export function canRun(program: string): boolean {
  return /[\\/]/.test(program) ? existsSync(program) : which(program) !== undefined;
}

/** Returns the program of this name on `PATH`. */
export function which(name: string): string | undefined {
  const endings = process.platform === 'win32' ? ['.exe', '.cmd', '.bat'] : [''];
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => isAbsolute(folder));
  const paths = folders.flatMap((folder) => endings.map((ending) => join(folder, name + ending)));
  return paths.find((path) => existsSync(path));
}

function* pythons(privatePython: string): Generator<[string, string]> {
  if (vscode.workspace.isTrusted) {
    for (const folder of vscode.workspace.workspaceFolders ?? []) {
      if (folder.uri.scheme !== 'file') continue;
      for (const name of ['.venv', 'venv']) {
        const python = pythonOf(join(folder.uri.fsPath, name));
        if (existsSync(python)) yield [python, `the folder ${name} of ${folder.name}`];
      }
    }
  }
  if (existsSync(privatePython)) yield [privatePython, 'the private environment'];
}

function expandHome(path: string): string {
  const home = process.env.HOME ?? process.env.USERPROFILE ?? '';
  return path.startsWith('~/') ? join(home, path.slice(2)) : path;
}
