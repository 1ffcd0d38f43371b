/** The item in the status bar: state, model, and time of the last suggestion. A click opens the menu. */

import * as vscode from 'vscode';

import { enabled, isOn, languageName, SECTION } from './configuration';
import type { Answers } from './completion';
import { documentAtHand, type Server, type StateName } from './server';

const ICONS: Record<StateName, string> = {
  starting: '$(loading~spin)',
  loading: '$(loading~spin)',
  ready: '$(sparkle)',
  busy: '$(sync~spin)',
  error: '$(warning)',
  disabled: '$(circle-slash)',
  stopped: '$(circle-outline)',
  missing: '$(warning)',
};
const WORDS: Partial<Record<StateName, string>> = {
  starting: 'starting',
  loading: 'loading',
  error: 'error',
  disabled: 'off',
  missing: 'not installed',
};
const BUSY_AFTER = 250;

/** Shows the item until the result is disposed. */
export function showStatusBar(server: Server, answers: Answers): vscode.Disposable {
  const item = vscode.window.createStatusBarItem('state', vscode.StatusBarAlignment.Right, 90);
  item.name = 'Codegen';
  item.command = `${SECTION}.menu`;
  let milliseconds: number | undefined;
  let timer: NodeJS.Timeout | undefined;

  const draw = () => {
    clearTimeout(timer);
    const status = server.status;
    const language = documentAtHand()?.languageId;
    const off = !enabled() || (language !== undefined && !isOn(language));
    const state: StateName = off && status.state !== 'missing' ? 'disabled' : status.state;
    const took = milliseconds === undefined ? '' : ` ${Math.round(milliseconds)} ms`;
    const name = status.model?.name ?? '';
    const word = WORDS[state];
    item.text = `${ICONS[state]} ${word ? `Codegen: ${word}` : `${name || 'Codegen'}${took}`}`;
    const warns = state === 'error' || state === 'missing';
    item.backgroundColor = warns ? new vscode.ThemeColor('statusBarItem.warningBackground') : undefined;
    item.tooltip = tooltip(off, language, took);
    item.accessibilityInformation = { label: `Codegen, ${word ?? state}, model ${name || 'none'},${took}` };
    item.show();
  };
  const tooltip = (off: boolean, language: string | undefined, took: string): vscode.MarkdownString => {
    const { state, message, advice, model } = server.status;
    const lines = [`**Codegen**: ${state}`];
    if (off) lines.push(enabled() ? `Off for ${languageName(language ?? '')}.` : 'Off everywhere.');
    if (message) lines.push(message);
    if (advice) lines.push(advice);
    if (model) lines.push(`Model ${model.name}: ${model.engine} on ${model.device}, ${model.computeType}`);
    if (took) lines.push(`The last suggestion took${took}.`);
    lines.push('Click for the menu.');
    return new vscode.MarkdownString(lines.join('\n\n'));
  };

  draw();
  return vscode.Disposable.from(
    item,
    answers.onDidAnswer((value) => {
      milliseconds = value;
      draw();
    }),
    // No busy icon for answers within BUSY_AFTER milliseconds.
    server.onDidChange(({ state }) => {
      if (state === 'busy') {
        clearTimeout(timer);
        timer = setTimeout(draw, BUSY_AFTER);
      } else {
        draw();
      }
    }),
    vscode.window.onDidChangeActiveTextEditor(draw),
    vscode.workspace.onDidOpenTextDocument(draw), // and when a document has got another language
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration(SECTION)) draw();
    }),
    new vscode.Disposable(() => clearTimeout(timer)),
  );
}
