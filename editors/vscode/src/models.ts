/** Models: choosing an installed one, and pulling another with progress and cancellation. */

import * as vscode from 'vscode';

import { ownSettings, SECTION } from './configuration';
import { lastLine, run } from './processes';
import type { Program } from './program';
import type { Server } from './server';

interface ModelRow {
  readonly name: string;
  /** `embedded`, `installed`, or empty when it would have to be pulled. */
  readonly state: string;
  readonly size_mb: number;
  readonly memory_mb: number | null;
  readonly license: string;
  readonly needs_consent?: boolean;
  readonly languages: readonly string[];
  readonly path: string | null;
}

/** The part of a row that pulling needs. */
export type Pullable = Pick<ModelRow, 'name' | 'license' | 'size_mb' | 'needs_consent'>;

/** A line of `models pull --json`. */
interface PullLine {
  readonly message?: string;
  readonly fraction?: number;
  readonly error?: string;
  readonly advice?: string;
  /** Name of the extra without which the command can't run; `--install` installs it. */
  readonly missing_extra?: string;
}

/** The end of a pull. */
interface Pulled {
  /** The reason why it failed, or an empty string. */
  readonly problem: string;
  readonly missingExtra?: string | undefined;
}

type ModelItem = vscode.QuickPickItem & { readonly row: ModelRow };

/** Lets the user choose among the installed models, and runs the chosen one. */
export async function selectModel(server: Server, program: Program, cwd: string): Promise<void> {
  const rows = await list(program, cwd);
  if (!rows) return;
  const running = server.status.model?.name;
  const items: (ModelItem | vscode.QuickPickItem)[] = rows.filter((row) => row.path !== null).map(itemOf(running));
  items.push({ label: '', kind: vscode.QuickPickItemKind.Separator }, { label: PULL });
  const chosen = await vscode.window.showQuickPick(items, {
    title: 'Which model shall suggest?',
    placeHolder: running ? `${running} runs now` : 'No model runs now',
  });
  if (!chosen) return;
  if (!('row' in chosen)) return pullModel(server, program, cwd);
  await use(server, chosen.row.name);
}

/** Lets the user choose a checkpoint, downloads and converts it, and offers to run it. */
export async function pullModel(server: Server, program: Program, cwd: string): Promise<void> {
  const rows = await list(program, cwd);
  if (!rows) return;
  const chosen = await vscode.window.showQuickPick(
    rows.filter((row) => row.path === null).map(itemOf(undefined)),
    { title: 'Which model shall be downloaded?', matchOnDescription: true, matchOnDetail: true },
  );
  if (chosen) await pullNamed(server, program, cwd, chosen.row);
}

/** Downloads and converts a checkpoint after the user has agreed, and offers to run it. */
export async function pullNamed(server: Server, program: Program, cwd: string, row: Pullable): Promise<void> {
  const { name, license } = row;
  const size = `It is a download of ${megabytes(row.size_mb)}, which is then converted here. Licence: ${license}.`;
  const agree = row.needs_consent ? 'I Agree to the Licence: Download' : 'Download';
  if ((await vscode.window.showInformationMessage(`Pull ${name}?`, { modal: true, detail: size }, agree)) !== agree) return;
  const consent = row.needs_consent ? ['--accept-license'] : [];
  const command = [...program.command, 'models', 'pull', name, '--json', ...consent];
  let ended = await pull(name, command, cwd);
  if (ended.missingExtra !== undefined) {
    const install = 'Install and Pull';
    const detail = 'They are installed with pip, into the environment of the server.';
    const question = `Packages that convert models are missing (the extra ${ended.missingExtra}). Install them?`;
    if ((await vscode.window.showInformationMessage(question, { modal: true, detail }, install)) !== install) return;
    ended = await pull(name, [...command, '--install'], cwd);
  }
  if (ended.problem) return void vscode.window.showWarningMessage(ended.problem);
  const yes = 'Use It';
  if ((await vscode.window.showInformationMessage(`${name} is installed.`, yes)) === yes) await use(server, name);
}

/** Runs the command that pulls a model, with its progress in a notification that can cancel it. */
async function pull(name: string, command: readonly string[], cwd: string): Promise<Pulled> {
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: `Pulling ${name}`, cancellable: true },
    async (progress, token) => {
      let before = 0;
      let problem = '';
      let missingExtra: string | undefined;
      const onLine = (text: string) => {
        const { message, fraction, error, advice, missing_extra } = parse(text);
        if (error !== undefined) problem = `${error} ${advice ?? ''}`.trim();
        missingExtra = missing_extra ?? missingExtra;
        if (message === undefined || fraction === undefined) return;
        progress.report({ message, increment: Math.max(0, fraction * 100 - before) });
        before = Math.max(before, fraction * 100);
      };
      const ended = await run(command, { cwd, token, onLine, environment: ownSettings().environment });
      if (token.isCancellationRequested) {
        return { problem: `The download of ${name} was stopped. Pulled again, it goes on from there.` };
      }
      return ended.status === 0 ? { problem: '' } : { problem: problem || lastLine(ended), missingExtra };
    },
  );
}

/** Runs a model, and keeps the choice in the settings of the user, or of the workspace. */
export async function use(server: Server, name: string, target = vscode.ConfigurationTarget.Global): Promise<void> {
  try {
    await vscode.window.withProgress({ location: vscode.ProgressLocation.Window, title: `Loading ${name}` }, () =>
      server.execute('codegen-lsp.switchModel', name),
    );
  } catch (error) {
    void vscode.window.showWarningMessage(error instanceof Error ? error.message : String(error));
    return;
  }
  await vscode.workspace.getConfiguration(SECTION).update('model', name, target);
}

async function list(program: Program, cwd: string): Promise<ModelRow[] | undefined> {
  const command = [...program.command, 'models', 'list', '--json'];
  const ended = await vscode.window.withProgress({ location: vscode.ProgressLocation.Window, title: 'Models' }, () =>
    run(command, { cwd, milliseconds: 60_000, environment: ownSettings().environment }),
  );
  try {
    if (ended.status === 0) return JSON.parse(ended.output) as ModelRow[];
  } catch {
    // As below.
  }
  void vscode.window.showWarningMessage(`The models could not be listed: ${lastLine(ended)}`);
  return undefined;
}

const PULL = '$(cloud-download) Pull another model…';

function itemOf(running: string | undefined): (row: ModelRow) => ModelItem {
  return (row) => {
    const memory = row.memory_mb ? `, ${megabytes(row.memory_mb)} of memory` : '';
    const icon = row.name === running ? '$(check) ' : '';
    const about = row.languages.length > 0 ? row.languages.join(', ') : 'text';
    return { label: icon + row.name, description: row.state, detail: `${about}; ${megabytes(row.size_mb)}${memory}; ${row.license}`, row };
  };
}

export function megabytes(count: number): string {
  return count < 1000 ? `${count} MB` : `${(count / 1000).toFixed(1)} GB`;
}

function parse(text: string): PullLine {
  try {
    return JSON.parse(text) as PullLine;
  } catch {
    return {};
  }
}
