/**
 * A panel beside a Python document that is written in turns. The document is the session: each step is one edit of it,
 * so undo, saving and versions are the editor's. Nothing is written or run before the user asks for it, and nothing at
 * all while the workspace is not trusted.
 */

import * as vscode from 'vscode';

import { enabled, isOn } from '../configuration';
import type { Server } from '../server';
import { Memory } from './memory';
import type {
  FromPage,
  MadeFile,
  Notice,
  Place,
  Proposals,
  RunReport,
  ServerTurn,
  ServerTurns,
  SessionState,
  TextEdit,
  ToPage,
} from './messages';

const SYNTHESIS = 'codegen-lsp/synthesis';
const REFRESH_AFTER = 100;
const SAVED_WITHIN = 5000;
const SMALL_MODEL = 'codegen-lsp-python';
const UNTRUSTED = 'This workspace is not trusted, so nothing is written or run. The steps are shown as they are.';

export class SessionPanel implements vscode.Disposable {
  private readonly memory = new Memory();
  private readonly parts: vscode.Disposable[] = [];
  private turns: readonly ServerTurn[] = [];
  private busy: SessionState['busy'] = null;
  private stopping: vscode.CancellationTokenSource | undefined;
  private asked: SessionState['asked'] = null;
  private notice: Notice | null = null;
  private timer: NodeJS.Timeout | undefined;
  private focus: { turn: number | null } | undefined;
  private undoing = Promise.resolve();
  private ready = false;
  private closed = false;
  /** The last texts of the document: when an untitled one is saved, VS Code may empty it before it is closed. */
  private texts: readonly string[] = [];

  constructor(
    private readonly panel: vscode.WebviewPanel,
    private readonly server: Server,
    public uri: vscode.Uri,
    private rewriteLater: boolean,
  ) {
    this.parts.push(
      panel.webview.onDidReceiveMessage((message: FromPage) => void this.act(message)),
      panel.onDidDispose(() => this.dispose()),
      server.onDidChange(() => this.refreshSoon()),
      vscode.workspace.onDidChangeTextDocument(({ document }) => {
        if (!this.isMine(document)) return;
        this.texts = [...this.texts.slice(-1), document.getText()];
        this.refreshSoon();
      }),
      vscode.workspace.onDidCloseTextDocument((document) => this.follow(document)),
      vscode.workspace.onDidGrantWorkspaceTrust(() => this.refreshSoon()),
      vscode.workspace.onDidChangeConfiguration(() => this.refreshSoon()),
    );
    this.refreshSoon();
  }

  get isClosed(): boolean {
    return this.closed;
  }

  /** Shows the panel, with the focus on the turn at a line, or on the field for the next one. */
  reveal(line: number | null): void {
    this.panel.reveal(undefined, false);
    void this.refresh().then(() => {
      const found = line === null ? -1 : this.turns.findLastIndex(({ range }) => range.start.line <= line);
      this.focus = { turn: found < 0 ? null : found };
      this.show();
    });
  }

  dispose(): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.stopping?.cancel();
    for (const part of this.parts) part.dispose();
    this.panel.dispose();
  }

  // What is shown.

  private show(): void {
    if (this.closed || !this.ready) return;
    const name = this.uri.path.split('/').pop() ?? '';
    this.panel.title = `Session: ${name}`;
    const state: SessionState = {
      uri: this.uri.toString(),
      name,
      trusted: vscode.workspace.isTrusted,
      obstacle: this.obstacle(),
      smallModel: this.server.status.model?.name === SMALL_MODEL,
      turns: this.turns.map((turn) => this.memory.shown(turn)),
      busy: this.busy,
      asked: this.asked,
      notice: this.notice,
      rewriteLater: this.rewriteLater,
    };
    this.post({ type: 'state', state });
    if (this.focus) this.post({ type: 'focus', turn: this.focus.turn });
    this.focus = undefined;
  }

  /** Returns why nothing can be asked now, as sentences; an empty string if it can. */
  private obstacle(): string {
    if (!enabled() || !isOn('python')) {
      return 'Codegen is paused for Python. Resume it by its item in the status bar.';
    }
    if (!this.server.running) return `${this.server.status.message} ${this.server.status.advice}`.trim();
    return '';
  }

  private post(message: ToPage): void {
    void this.panel.webview.postMessage(message);
  }

  private refreshSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.refresh(), REFRESH_AFTER);
  }

  /** Reads the turns of the document as it is now. */
  private async refresh(): Promise<void> {
    if (this.closed) return;
    if (this.obstacle() === '') {
      try {
        const document = await this.document();
        const found = await this.request<ServerTurns>('turns', {});
        if (found.version !== document.version) {
          this.refreshSoon();
          return;
        }
        this.turns = found.turns;
      } catch (error) {
        this.notice = { kind: 'error', text: words(error) };
      }
    }
    this.show();
  }

  private isMine(document: vscode.TextDocument): boolean {
    return document.uri.toString() === this.uri.toString();
  }

  /** Goes on with the file that an untitled document is saved as, which may be opened before or after this. */
  private follow(closed: vscode.TextDocument): void {
    if (!this.isMine(closed) || closed.uri.scheme !== 'untitled') return;
    const texts = [...this.texts, closed.getText()].filter((text) => text !== '');
    const isSaved = (other: vscode.TextDocument) =>
      other.uri.scheme !== 'untitled' && other.languageId === 'python' && texts.includes(other.getText());
    const find = (): boolean => {
      const open = vscode.workspace.textDocuments;
      // A document that got another language is told as closed and opened again.
      const saved = open.find((other) => this.isMine(other)) ?? open.find(isSaved);
      if (!saved) return false;
      this.uri = saved.uri;
      this.refreshSoon();
      return true;
    };
    if (find()) return;
    const opening = vscode.workspace.onDidOpenTextDocument(() => {
      if (find()) ended();
    });
    const waiting = setTimeout(() => {
      ended();
      this.dispose();
    }, SAVED_WITHIN);
    const ended = () => {
      clearTimeout(waiting);
      opening.dispose();
    };
  }

  // What the user wants.

  private async act(message: FromPage): Promise<void> {
    switch (message.type) {
      case 'ready':
        this.ready = true;
        break;
      case 'stop':
        this.stopping?.cancel();
        return;
      case 'forget':
        this.asked = this.notice = null;
        break;
      case 'rewriteLater':
        this.rewriteLater = message.on;
        break;
      case 'trust':
        return void vscode.commands.executeCommand('workbench.trust.manage');
      case 'switchModel':
        return void vscode.commands.executeCommand('codegen-lsp.selectModel');
      case 'show':
        return this.showInFile(message.turn);
      case 'save':
        return this.saveFile(message.turn, message.file);
      case 'undo':
      case 'redo':
        return this.inEditor(message.type);
      case 'ask':
        return this.ask(message.place, message.request, message.answered);
      case 'retry':
        return this.retry(message.turn);
      case 'choose':
        return this.choose(message.turn, message.choice);
      case 'edit':
        return this.report('Running', message.turn, 'edit', { turn: message.turn, code: message.code, run: true });
      case 'remove':
        return this.report('Removing', message.turn, 'edit', { turn: message.turn });
      case 'run':
        return this.report('Running the program', null, 'run', {});
    }
    this.show();
  }

  private ask(place: Place, request: string, answered: boolean): Promise<void> {
    this.asked = null;
    const turn = place.turn ?? this.turns.length;
    return this.working('Writing and trying candidates', turn, async (token) => {
      const asked = { ...this.at(place.turn, place.insert), request, askFirst: !answered };
      const found = await this.request<Proposals>('propose', asked, token);
      if (found.proposals.length === 0 && found.questions.length > 0 && !answered) {
        this.asked = { place, request, questions: found.questions };
        return;
      }
      await this.take(found, request, turn, 0);
      this.post({ type: 'taken', place });
    });
  }

  private retry(number: number): Promise<void> {
    return this.working('Writing other candidates', number, async (token) => {
      const turn = this.turn(number);
      const seed = this.memory.seed(turn) + 1;
      const asked = { ...this.at(number, false), request: turn.request, seed };
      await this.take(await this.request<Proposals>('propose', asked, token), turn.request, number, seed);
    });
  }

  private choose(number: number, choice: number): Promise<void> {
    return this.working('Taking another candidate', number, async (token) => {
      const turn = this.turn(number);
      const code = this.memory.choices(turn)[choice]?.code;
      if (code === undefined) return;
      const asked = { ...this.at(number, false), request: turn.request, code };
      const found = await this.request<Proposals>('propose', asked, token);
      const [proposal] = found.proposals;
      if (!proposal?.edits) return;
      this.memory.choose(turn, code, proposal.outcome);
      await this.apply(found.version, proposal.edits, number);
    });
  }

  /** Takes the best proposal for a turn. */
  private async take(found: Proposals, request: string, turn: number, seed: number): Promise<void> {
    const [best] = found.proposals;
    if (!best?.edits) throw new Error('The model wrote nothing. Say it in other words, or write the code yourself.');
    this.memory.propose(request, found.proposals, 0, seed);
    await this.apply(found.version, best.edits, turn);
    if (best.code.trim() === '') {
      this.notice = { kind: 'error', text: 'The model wrote no code. Try again, edit the step, or say it in other words.' };
    } else if (best.kind !== 'right' && best.kind !== 'ran') {
      const text = 'No candidate does what it should. Try again, edit the step, or say it in other words.';
      this.notice = { kind: 'error', text };
    }
  }

  /** Has the server run something, and takes what it reports. */
  private report(text: string, turn: number | null, method: string, params: object): Promise<void> {
    return this.working(text, turn, async (token) => {
      const found = await this.request<RunReport>(method, params, token);
      await this.apply(found.version, found.edits, turn);
      this.memory.ran(this.turns, found.turns);
      if (method === 'run' && found.reason === '') this.notice = { kind: 'done', text: 'The program ran to its end.' };
      if (found.turns.length === 0 && found.reason) this.notice = { kind: 'error', text: found.reason };
    });
  }

  /** Does one thing at a time, and tells how it ended. */
  private async working(
    text: string,
    turn: number | null,
    act: (token: vscode.CancellationToken) => Promise<void>,
  ): Promise<void> {
    if (this.busy) return;
    this.notice = null;
    const problem = vscode.workspace.isTrusted ? this.obstacle() : UNTRUSTED;
    if (problem) {
      this.notice = { kind: 'error', text: problem };
      this.show();
      return;
    }
    const stopping = new vscode.CancellationTokenSource();
    this.stopping = stopping;
    this.busy = { text, turn };
    this.show();
    try {
      await act(stopping.token);
    } catch (error) {
      this.notice = stopping.token.isCancellationRequested
        ? { kind: 'done', text: 'Stopped; nothing was changed.' }
        : { kind: 'error', text: words(error) };
    } finally {
      this.busy = null;
      this.stopping = undefined;
      stopping.dispose();
      this.show();
    }
  }

  /** Applies edits as one step to undo, and reads the turns again. Rejects if the document was changed meanwhile. */
  private async apply(version: number, edits: readonly TextEdit[], turn: number | null): Promise<void> {
    const document = await this.document();
    if (document.version !== version) throw new Error('The file was changed meanwhile; nothing was taken. Ask again.');
    if (edits.length > 0) {
      const change = new vscode.WorkspaceEdit();
      change.set(this.uri, await this.server.textEdits(edits));
      if (!(await vscode.workspace.applyEdit(change))) throw new Error('The file could not be changed.');
    }
    const found = await this.request<ServerTurns>('turns', {});
    this.turns = found.turns;
    for (const each of this.turns) this.memory.state(each);
    if (turn !== null) this.bringIntoView(turn);
  }

  private async document(): Promise<vscode.TextDocument> {
    try {
      return await vscode.workspace.openTextDocument(this.uri);
    } catch {
      throw new Error('The file of this session is no longer there.');
    }
  }

  private request<Result>(name: string, params: object, token?: vscode.CancellationToken): Promise<Result> {
    return this.server.request<Result>(`${SYNTHESIS}/${name}`, this.uri, params, token);
  }

  private at(turn: number | null, insert: boolean): object {
    const later = { rewriteLater: this.rewriteLater };
    return turn === null ? later : { turn, insert, ...later };
  }

  private turn(number: number): ServerTurn {
    const turn = this.turns[number];
    if (!turn) throw new Error(`There is no step ${number + 1}.`);
    return turn;
  }

  // The editor of the document.

  private bringIntoView(number: number): void {
    const turn = this.turns[number];
    const editor = vscode.window.visibleTextEditors.find((each) => this.isMine(each.document));
    if (!turn || !editor) return;
    const { start, end } = turn.range;
    const range = new vscode.Range(start.line, 0, end.line, 0);
    editor.revealRange(range, vscode.TextEditorRevealType.InCenterIfOutsideViewport);
  }

  private async editor(selection?: vscode.Range): Promise<vscode.TextEditor> {
    const open = vscode.window.visibleTextEditors.find((each) => this.isMine(each.document));
    const viewColumn = open?.viewColumn ?? vscode.ViewColumn.One;
    const options = { viewColumn, preview: false, ...(selection ? { selection } : {}) };
    return vscode.window.showTextDocument(await this.document(), options);
  }

  private async showInFile(number: number): Promise<void> {
    const range = this.turns[number]?.range;
    if (range) await this.editor(new vscode.Range(range.start.line, 0, range.start.line, 0));
  }

  /** Undoes or redoes one step in the editor, and returns to the panel. Presses are done one after the other. */
  private inEditor(command: 'undo' | 'redo'): Promise<void> {
    this.undoing = this.undoing.then(async () => {
      if (this.busy) return;
      this.notice = null;
      try {
        if (!(await this.changedBy(command))) this.notice = { kind: 'done', text: `There is nothing to ${command}.` };
      } catch (error) {
        this.notice = { kind: 'error', text: words(error) };
      }
      this.panel.reveal(undefined, false);
      await this.refresh();
    });
    return this.undoing;
  }

  /** Runs a command that acts on what has the focus, which may be on its way to the panel; tries a few times. */
  private async changedBy(command: string): Promise<boolean> {
    for (let wait = 0; wait <= 400; wait += 100) {
      const { document } = await this.editor();
      const { version } = document;
      await new Promise((resolve) => setTimeout(resolve, wait));
      await vscode.commands.executeCommand(command);
      if (document.version !== version) return true;
    }
    return false;
  }

  private async saveFile(turn: number, number: number): Promise<void> {
    const shown = this.turns[turn] && this.memory.shown(this.turns[turn]);
    const file: MadeFile | undefined = shown?.outcome?.files[number];
    if (!file) return;
    const name = file.name.replace(/[^\w.-]/g, '_');
    const folder = vscode.Uri.joinPath(this.uri.scheme === 'file' ? this.uri : homeOfWorkspace(this.uri), '..');
    const target = await vscode.window.showSaveDialog({ defaultUri: vscode.Uri.joinPath(folder, name) });
    if (target) await vscode.workspace.fs.writeFile(target, Buffer.from(file.base64, 'base64'));
  }
}

function homeOfWorkspace(other: vscode.Uri): vscode.Uri {
  const [folder] = vscode.workspace.workspaceFolders ?? [];
  return folder ? vscode.Uri.joinPath(folder.uri, 'file') : other.with({ scheme: 'file' });
}

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
