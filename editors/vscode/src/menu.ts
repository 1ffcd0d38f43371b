/** The menu behind the item in the status bar. */

import * as vscode from 'vscode';

import { enabled, isOn, languageName, SECTION } from './configuration';
import { documentAtHand, type Server } from './server';

type Entry = vscode.QuickPickItem & { readonly command?: string; readonly argument?: string };

/** Shows the menu and runs the chosen command. */
export async function showMenu(server: Server): Promise<void> {
  const { state, message, advice, model } = server.status;
  const language = documentAtHand()?.languageId;
  const own = (name: string) => `${SECTION}.${name}`;
  const entries: Entry[] = [];
  if (state === 'missing') {
    entries.push({ label: '$(desktop-download) Install the server', command: own('installServer') });
    entries.push({ label: '$(folder) Choose the Python that has it', command: own('choosePython') });
  }
  const on = enabled();
  entries.push({ label: on ? '$(debug-pause) Pause everywhere' : '$(debug-start) Resume everywhere', command: own('toggle') });
  if (on && language !== undefined) {
    const label = isOn(language) ? '$(debug-pause) Pause for' : '$(debug-start) Suggest in';
    entries.push({ label: `${label} ${languageName(language)}`, command: own('toggleLanguage') });
  }
  entries.push(
    { label: '', kind: vscode.QuickPickItemKind.Separator },
    { label: '$(lightbulb) Suggest now', command: own('trigger') },
    { label: '$(question) Why was there no suggestion?', command: own('explain') },
    { label: '$(comment-discussion) Write a program in steps', command: own('newSession') },
    { label: '$(arrow-swap) Switch model', description: model?.name ?? '', command: own('selectModel') },
    { label: '$(cloud-download) Pull a model', command: own('pullModel') },
    { label: '$(dashboard) Which model suits this machine?', command: own('adviseModel') },
    { label: '', kind: vscode.QuickPickItemKind.Separator },
    { label: '$(graph) Statistics', command: own('statistics') },
    { label: '$(pulse) Doctor', command: own('doctor') },
    { label: '$(debug-restart) Restart the server', command: own('restart') },
    { label: '$(output) Log', command: own('log') },
    { label: '$(gear) Settings', command: 'workbench.action.openSettings', argument: SECTION },
  );
  const placeHolder = `${state}: ${message} ${advice}`.replace(/: +$/, '').trim();
  const chosen = await vscode.window.showQuickPick(entries, { title: 'Codegen', placeHolder });
  if (chosen?.command) await vscode.commands.executeCommand(chosen.command, chosen.argument);
}
