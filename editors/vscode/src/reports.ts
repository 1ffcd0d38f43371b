/** Output of the server's command line, shown in a read-only editor. */

import * as vscode from 'vscode';

import { ownSettings, SECTION } from './configuration';
import { lastLine, run } from './processes';
import type { Program } from './program';

/** Shows reports; registered once. */
export class Reports implements vscode.TextDocumentContentProvider {
  private readonly texts = new Map<string, string>();
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.texts.get(uri.path) ?? '';
  }

  /** Runs a command of the server's program and shows its output. */
  async show(title: string, program: Program, command: readonly string[], cwd: string): Promise<void> {
    const environment = { ...ownSettings().environment, COLUMNS: '100', NO_COLOR: '1' };
    const ended = await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, title: `Codegen: ${title}`, cancellable: true },
      (_, token) => run([...program.command, ...command], { cwd, environment, token }),
    );
    if (ended.errors.includes('No such command')) {
      void vscode.window.showWarningMessage(`This version of codegen-lsp has no command \`${command.join(' ')}\`; update it.`);
      return;
    }
    if (ended.output.trim() === '') {
      if (ended.status !== null) void vscode.window.showWarningMessage(`${title}: ${lastLine(ended)}`);
      return;
    }
    const uri = vscode.Uri.from({ scheme: `${SECTION}-report`, path: `/${title}.txt` });
    this.texts.set(uri.path, ended.output);
    this.changed.fire(uri);
    await vscode.window.showTextDocument(uri, { preview: true });
  }
}

/** The URI scheme of reports. */
export const REPORT = `${SECTION}-report`;
