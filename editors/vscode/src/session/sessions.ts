/** The panels of this window: opened by commands, and again after VS Code was restarted. */

import * as vscode from 'vscode';

import { SECTION } from '../configuration';
import type { Server } from '../server';
import { page } from './page';
import { SessionPanel } from './sessionPanel';

export const VIEW = `${SECTION}.session`;
const COMMENT = /^#(?![!>:])/;
const NOTES = /^#(?:>|: edited)/m;

interface KeptState {
  readonly uri?: unknown;
  readonly rewriteLater?: unknown;
}

export class Sessions implements vscode.WebviewPanelSerializer {
  private panels: SessionPanel[] = [];

  constructor(
    private readonly server: Server,
    private readonly extension: vscode.Uri,
  ) {}

  /** Begins a session in a new document. */
  async begin(): Promise<void> {
    const document = await vscode.workspace.openTextDocument({ language: 'python', content: '' });
    await vscode.window.showTextDocument(document, { viewColumn: vscode.ViewColumn.One, preview: false });
    this.open(document, true).reveal(null);
  }

  /** Goes on with the active document, with the comment at the cursor as the step to write. */
  async goOn(): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (editor?.document.languageId !== 'python') {
      return void vscode.window.showInformationMessage('A session is a Python file. Open one, or begin a new session.');
    }
    const { document, selection } = editor;
    const line = selection.active.line;
    await separate(editor, line);
    const empty = document.getText().trim() === '';
    // Code of a file that is no session yet is the user's, though nothing marks it so.
    this.open(document, empty || NOTES.test(document.getText())).reveal(empty ? null : editor.selection.active.line);
  }

  async deserializeWebviewPanel(panel: vscode.WebviewPanel, state: KeptState | undefined): Promise<void> {
    if (typeof state?.uri !== 'string') {
      panel.dispose();
      return;
    }
    const uri = vscode.Uri.parse(state.uri);
    try {
      await vscode.workspace.openTextDocument(uri);
    } catch {
      panel.dispose();
      return;
    }
    this.add(panel, uri, state.rewriteLater !== false);
  }

  private open(document: vscode.TextDocument, rewriteLater: boolean): SessionPanel {
    this.panels = this.panels.filter((each) => !each.isClosed);
    const found = this.panels.find((each) => each.uri.toString() === document.uri.toString());
    if (found) return found;
    const panel = vscode.window.createWebviewPanel(VIEW, 'Session', vscode.ViewColumn.Beside);
    return this.add(panel, document.uri, rewriteLater);
  }

  private add(panel: vscode.WebviewPanel, uri: vscode.Uri, rewriteLater: boolean): SessionPanel {
    const roots = [vscode.Uri.joinPath(this.extension, 'dist'), vscode.Uri.joinPath(this.extension, 'media')];
    panel.webview.options = { enableScripts: true, localResourceRoots: roots };
    const added = new SessionPanel(panel, this.server, uri, rewriteLater);
    panel.webview.html = page(panel.webview, this.extension);
    this.panels.push(added);
    return added;
  }
}

/** Puts an empty line above a comment that begins a step only with one: below code, comments belong to that code. */
async function separate(editor: vscode.TextEditor, line: number): Promise<void> {
  const { document } = editor;
  let first = line;
  if (!COMMENT.test(document.lineAt(first).text)) return;
  while (first > 0 && COMMENT.test(document.lineAt(first - 1).text)) first -= 1;
  if (first === 0 || document.lineAt(first - 1).text.trim() === '' || document.lineAt(first - 1).text.startsWith('#')) return;
  await editor.edit((edit) => edit.insert(new vscode.Position(first, 0), '\n'));
}
