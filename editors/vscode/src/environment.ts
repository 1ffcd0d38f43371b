/**
 * A private virtual environment for users without codegen-lsp: created and filled on request, and removed completely.
 */

import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import * as vscode from 'vscode';

import { ownSettings } from './configuration';
import { lastLine, run } from './processes';
import { clone, hasServer, pythonOf, which } from './program';

const NAMES = ['python3.13', 'python3.12', 'python3.11', 'python3', 'python'];
const NEW_ENOUGH = 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))';

/** The private environment of this installation of the extension. */
export class PrivateEnvironment {
  private readonly folder: string;

  constructor(storage: string, private readonly log: vscode.LogOutputChannel) {
    this.folder = join(storage, 'environment');
  }

  /** Its Python, or an empty string until everything is installed. */
  get python(): string {
    return existsSync(this.mark) ? pythonOf(this.folder) : '';
  }

  /** The package to install. */
  get package(): string {
    return ownSettings().package || clone || 'codegen-lsp';
  }

  /** Creates the environment. Returns an error message, or an empty string. Leaves nothing behind when cancelled. */
  async install(progress: vscode.Progress<{ message: string }>, token: vscode.CancellationToken): Promise<string> {
    await this.remove();
    await mkdir(this.folder, { recursive: true });
    const problem = await this.fill(progress, token);
    if (token.isCancellationRequested) {
      await this.remove();
      return 'The installation was cancelled; nothing of it stays.';
    }
    if (problem === '') await writeFile(this.mark, '');
    else await this.remove();
    return problem;
  }

  /** Removes the environment. */
  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  private get mark(): string {
    return join(this.folder, 'complete');
  }

  private async fill(
    progress: vscode.Progress<{ message: string }>,
    token: vscode.CancellationToken,
  ): Promise<string> {
    const step = async (message: string, command: readonly string[]) => {
      progress.report({ message });
      this.log.info(`${message} ${command.join(' ')}`);
      const onLine = (line: string) => {
        this.log.info(line);
        const doing = /^\s*(Collecting|Downloading|Installing|Building|Preparing)\b.*/.exec(line);
        if (doing) progress.report({ message: doing[0].trim().slice(0, 80) });
      };
      return run(command, { cwd: this.folder, token, onLine });
    };
    progress.report({ message: 'Looking for Python 3.11 or later' });
    const base = await this.basePython(token);
    if (!base) {
      return (
        'There is no Python 3.11 or later with the module venv. Install one (on Debian and Ubuntu: ' +
        'apt-get install python3 python3-venv), or name one in the setting codegen-lsp.server.python.'
      );
    }
    const made = await step('Making the environment', [base, '-m', 'venv', '--clear', this.folder]);
    if (made.status !== 0) return `The environment could not be made: ${lastLine(made)}`;
    const python = pythonOf(this.folder);
    const pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '--no-input', '--progress-bar', 'off'];
    const installed = await step('Installing', [...pip, ...ownSettings().pipArguments, this.package]);
    if (installed.status !== 0) return `pip could not install ${this.package}: ${lastLine(installed)}`;
    if (!(await hasServer(python, this.folder))) return `${this.package} was installed but can't be imported.`;
    return '';
  }

  private async basePython(token: vscode.CancellationToken): Promise<string | undefined> {
    const named = ownSettings().python;
    const candidates = [named, ...NAMES.map((name) => which(name) ?? '')].filter((path) => path !== '');
    for (const python of candidates) {
      const ended = await run([python, '-c', NEW_ENOUGH], { cwd: this.folder, milliseconds: 10_000, token });
      if (ended.status === 0) return python;
    }
    return undefined;
  }
}
