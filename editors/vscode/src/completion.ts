/**
 * Middleware for VS Code's requests for ghost text: sends none where suggestions are off, measures the time to an
 * answer, and logs errors instead of showing them. What was typed before a model was ready is asked for later.
 */

import * as vscode from 'vscode';
import type { Middleware } from 'vscode-languageclient/node';

import { enabled, isOn, SECTION } from './configuration';
import type { Server, Status } from './server';

/** Measures the time of suggestions. */
export class Answers {
  private readonly taken = new vscode.EventEmitter<number>();
  /** Fires with the milliseconds of each answer that has a suggestion. */
  readonly onDidAnswer = this.taken.event;
  private asAutomatic = false;

  constructor(private readonly log: vscode.LogOutputChannel) {}

  readonly middleware: Middleware = {
    provideInlineCompletionItems: async (document, position, context, token, next) => {
      if (!enabled() || !isOn(document.languageId)) return [];
      const asked = performance.now();
      try {
        const triggerKind = this.asAutomatic ? vscode.InlineCompletionTriggerKind.Automatic : context.triggerKind;
        const answer = (await next(document, position, { ...context, triggerKind }, token)) ?? [];
        const items = Array.isArray(answer) ? answer : answer.items;
        if (items.length > 0 && !token.isCancellationRequested) this.answered(performance.now() - asked);
        return items.map((item) => behindPairs(document, item));
      } catch (error) {
        if (!(error instanceof vscode.CancellationError)) this.log.warn(`No suggestion: ${String(error)}`);
        return [];
      }
    },
  };

  /** Has VS Code ask for a suggestion at the cursor, as if something had been typed now. */
  async ask(): Promise<void> {
    this.asAutomatic = true;
    try {
      await vscode.commands.executeCommand('editor.action.inlineSuggest.trigger');
    } finally {
      this.asAutomatic = false;
    }
  }

  private answered(milliseconds: number): void {
    void vscode.commands.executeCommand('setContext', `${SECTION}.suggested`, true);
    this.taken.fire(milliseconds);
  }
}

/**
 * Hides what is suggested in the active editor when its document gets another language, which VS Code tells as if the
 * document were closed and opened again: the ghost text would stay until the next key, even where suggestions are off.
 */
export function hideStale(): vscode.Disposable {
  return vscode.workspace.onDidOpenTextDocument((document) => {
    if (document !== vscode.window.activeTextEditor?.document) return;
    void vscode.commands.executeCommand('editor.action.inlineSuggest.hide');
  });
}

/**
 * Asks for a suggestion for the text typed last when a model becomes ready, if the cursor is still there: a request
 * that was sent before had no answer.
 */
export function askOnceReady(server: Server, answers: Answers): vscode.Disposable {
  let wasReady = isReady(server.status);
  let typed: { event: vscode.TextDocumentChangeEvent; version: number } | undefined;
  return vscode.Disposable.from(
    vscode.workspace.onDidChangeTextDocument((event) => {
      if (!event.contentChanges[0]?.text || event.document !== vscode.window.activeTextEditor?.document) return;
      typed = { event, version: event.document.version };
    }),
    server.onDidChange((status) => {
      const becomesReady = isReady(status) && !wasReady;
      wasReady = isReady(status);
      if (!becomesReady || !typed) return;
      const { document, contentChanges } = typed.event;
      const { version } = typed;
      typed = undefined;
      const [change] = contentChanges;
      const editor = vscode.window.activeTextEditor;
      if (!change || editor?.document !== document || document.version !== version) return;
      const end = document.positionAt(change.rangeOffset + change.text.length);
      const isThere = new vscode.Range(change.range.start, end).contains(editor.selection.active);
      if (!isThere || !editor.selection.isEmpty || editor.selections.length !== 1) return;
      if (vscode.workspace.getConfiguration('editor', document).get('inlineSuggest.enabled')) void answers.ask();
    }),
  );
}

function isReady({ state }: Status): boolean {
  return state === 'ready' || state === 'busy';
}

const PAIR = /^[^]*[\uD800-\uDBFF][\uDC00-\uDFFF]/;

/**
 * Returns the item with a range that begins behind the last surrogate pair, if it replaces such characters by
 * themselves: VS Code does not show it otherwise.
 */
function behindPairs(document: vscode.TextDocument, item: vscode.InlineCompletionItem): vscode.InlineCompletionItem {
  if (typeof item.insertText !== 'string' || !item.range) return item;
  const replaced = PAIR.exec(document.getText(item.range))?.[0] ?? '';
  if (replaced === '' || !item.insertText.startsWith(replaced)) return item;
  const start = item.range.start.translate(0, replaced.length);
  const moved = new vscode.InlineCompletionItem(item.insertText.slice(replaced.length), item.range.with(start));
  if (item.command) moved.command = item.command;
  return moved;
}
