// Opens files and runs commands for the tests, through VS Code's own interface: a call has ended when its effect is
// there, which lists that are searched while one types (quick open, the command palette) can't promise.
//
// Listens on a local port, which an invisible item of the status bar names, so each window leads to its own driver.
// A request is a line of JSON, `[name, ...arguments]`, answered by a line: `{ "result": … }` or `{ "error": "…" }`.

'use strict';

const net = require('node:net');
const vscode = require('vscode');

/** Commands begun by `start`: their promise, and how they ended. */
const started = [];

function begin(id, ...given) {
  const command = { ended: false, error: null };
  command.promise = Promise.resolve(vscode.commands.executeCommand(id, ...given)).then(
    () => (command.ended = true),
    (error) => Object.assign(command, { ended: true, error: String(error) }),
  );
  return command;
}

/** Shows a document with this selection, by default the end of its text. */
async function show(document, selection) {
  const end = document.lineAt(document.lineCount - 1).range.end;
  const range = selection ? new vscode.Selection(...selection) : new vscode.Selection(end, end);
  await vscode.window.showTextDocument(document, { selection: range, preview: false });
}

function active() {
  const editor = vscode.window.activeTextEditor;
  if (!editor) throw new Error('no editor is active');
  return editor.document;
}

const requests = {
  /** Opens a file, with the cursor at the end of its text. */
  async edit(path) {
    await show(await vscode.workspace.openTextDocument(vscode.Uri.file(path)));
  },
  /** Opens a file in the editor that VS Code has for it. */
  async open(path) {
    await vscode.commands.executeCommand('vscode.open', vscode.Uri.file(path));
  },
  /** Selects text of the active editor: line and column of the anchor and of the cursor, from 0. */
  async select(...selection) {
    await show(active(), selection);
  },
  /** Puts the cursor at the end of the active editor's text. */
  async focus() {
    await show(active());
  },
  /** Sets the language of the active editor. */
  async language(id) {
    await vscode.languages.setTextDocumentLanguage(active(), id);
  },
  /** Returns the text of an open document, saved or not. */
  async text(path) {
    const found = vscode.workspace.textDocuments.find(({ uri }) => uri.fsPath === path || uri.path === path);
    if (!found) throw new Error(`${path} is not open`);
    return found.getText();
  },
  /** Renames a file, as the explorer does. */
  async rename(before, after) {
    const edit = new vscode.WorkspaceEdit();
    edit.renameFile(vscode.Uri.file(before), vscode.Uri.file(after));
    if (!(await vscode.workspace.applyEdit(edit))) throw new Error(`${before} could not be renamed`);
  },
  /** Closes editors without saving, all if that takes at most some seconds: VS Code may wait for a dialog. */
  async close() {
    const tabs = () => vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    const end = Date.now() + 15000;
    while (tabs().length && Date.now() < end) {
      // Not all at once: VS Code would ask about a file that a program changes meanwhile.
      const closed = vscode.commands.executeCommand('workbench.action.revertAndCloseActiveEditor');
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 3000))]);
    }
  },
  /** Removes settings from the user's. */
  async unset(...names) {
    for (const name of names) {
      const settings = vscode.workspace.getConfiguration();
      if (settings.inspect(name)?.globalValue === undefined) continue;
      await settings.update(name, undefined, vscode.ConfigurationTarget.Global);
    }
  },
  /** Runs a command to its end. */
  async run(id, ...given) {
    const command = begin(id, ...given);
    await command.promise;
    if (command.error) throw new Error(command.error);
  },
  /** Begins a command that may wait for the user; returns a number for `ended`. */
  async start(id, ...given) {
    return started.push(begin(id, ...given)) - 1;
  },
  /** Returns whether a command has ended. */
  async ended(number) {
    if (started[number].error) throw new Error(started[number].error);
    return started[number].ended;
  },
};

async function answer(line) {
  try {
    const [name, ...given] = JSON.parse(line);
    return { result: (await requests[name](...given)) ?? null };
  } catch (error) {
    return { error: String(error) };
  }
}

exports.activate = (context) => {
  const server = net.createServer((connection) => {
    let text = '';
    connection.setEncoding('utf8');
    connection.on('error', () => connection.destroy());
    connection.on('data', async (part) => {
      text += part;
      if (text.endsWith('\n')) connection.end(JSON.stringify(await answer(text)) + '\n');
    });
  });
  server.listen(0, '127.0.0.1', () => {
    const item = vscode.window.createStatusBarItem('driver');
    item.name = 'driver';
    item.accessibilityInformation = { label: `driver at ${server.address().port}` };
    item.show();
    context.subscriptions.push(item);
  });
  context.subscriptions.push({ dispose: () => server.close() });
};
