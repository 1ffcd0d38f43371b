/**
 * The language server of this window: started with the first document that it serves, restarted when it dies, with one
 * state for the status bar. One server for all folders, since each would load a model of its own.
 *
 * The library's client shows message boxes when a connection breaks, and gives up for good after five times. Both are
 * disabled here, and each start creates a new client.
 */

import * as vscode from 'vscode';
import {
  CloseAction,
  ErrorAction,
  ExecuteCommandRequest,
  LanguageClient,
  RevealOutputChannelOn,
  ShowMessageRequest,
  State,
  type LanguageClientOptions,
  type MessageActionItem,
  type Middleware,
  type ShowMessageRequestParams,
} from 'vscode-languageclient/node';

import type { MachineAdvice } from './advice';
import { languagesOn, ownSettings, SECTION, serverSettings } from './configuration';
import { withoutCurrentFolder } from './processes';
import { canRun, type Program } from './program';
import type { TextEdit } from './session/messages';

/** The model, as the server describes it. */
export interface Model {
  readonly name: string;
  readonly engine: string;
  readonly device: string;
  readonly computeType: string;
  readonly threads: number;
}

/** `stopped` and `missing` come from the extension, the others from the server. */
export type StateName = 'starting' | 'loading' | 'ready' | 'busy' | 'error' | 'disabled' | 'stopped' | 'missing';

export interface Status {
  readonly state: StateName;
  readonly message: string;
  readonly advice: string;
  readonly model?: Model | null;
}

/** The reason why there was no suggestion, or the origin of the last one. */
export interface Explanation {
  readonly message: string;
}

const NEVER = new vscode.CancellationTokenSource().token;
const MOST_DEATHS = 5;
const WITHIN = 60_000;
const FIRST_WAIT = 250;
const SCHEMES = ['file', 'untitled', 'vscode-notebook-cell', 'vscode-vfs'];

/** Returns the active document, if its scheme is sent to the server: not a log or a report. */
export function documentAtHand(): vscode.TextDocument | undefined {
  const document = vscode.window.activeTextEditor?.document;
  return document && SCHEMES.includes(document.uri.scheme) ? document : undefined;
}

export class Server implements vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<Status>();
  readonly onDidChange = this.changed.event;

  private client: LanguageClient | undefined;
  private current: Status = { state: 'stopped', message: 'The server has not been needed yet.', advice: '' };
  private deaths: number[] = [];
  private again: NodeJS.Timeout | undefined;
  private program: Program | undefined;
  private languages: readonly string[] = [];
  /** Actions and commands that the user has chosen and waits for. */
  private awaited = 0;

  constructor(
    private readonly log: vscode.LogOutputChannel,
    private readonly cwd: string,
    private readonly middleware: Middleware,
  ) {}

  get status(): Status {
    return this.current;
  }

  /** True while requests can be sent. */
  get running(): boolean {
    return this.client?.state === State.Running;
  }

  /** Languages of the documents that are sent to the server; a change needs a restart. */
  get served(): readonly string[] {
    return this.languages;
  }

  show(status: Status): void {
    this.current = status;
    void vscode.commands.executeCommand('setContext', `${SECTION}.running`, this.running);
    this.changed.fire(status);
  }

  /** Starts the server, after ending one that runs. Resolves when it answers or has failed. */
  async start(program: Program): Promise<void> {
    await this.stop();
    this.program = program;
    const [command = ''] = program.command;
    if (!canRun(command)) {
      const message = `There is no program ${command}, which ${program.origin} names.`;
      this.show({ state: 'error', message, advice: 'Correct it, or restart the server by the menu.' });
      return;
    }
    this.languages = languagesOn();
    this.show({ state: 'starting', message: `The server is starting (from ${program.origin}).`, advice: '' });
    this.log.info(`Starting ${program.command.join(' ')} serve (from ${program.origin})`);
    const client = this.newClient(program);
    this.client = client;
    try {
      await client.start();
    } catch (error) {
      this.log.error(`The server could not be started: ${String(error)}`);
      if (this.client === client) this.died(client);
      return;
    }
    if (this.client === client && this.current.state === 'starting') this.show(this.current);
  }

  /** Restarts the server on the user's request, and resets the count of its deaths. */
  async restart(program: Program): Promise<void> {
    this.deaths = [];
    await this.start(program);
  }

  /** Ends the server. */
  async stop(): Promise<void> {
    clearTimeout(this.again);
    const client = this.client;
    this.client = undefined;
    if (!client) return;
    try {
      if (client.needsStop()) await client.stop(3000);
    } catch (error) {
      this.log.warn(`The server did not end in order: ${String(error)}`);
    }
    await client.dispose().catch(() => undefined);
  }

  /** Runs a command of the server. Rejects with the server's error. */
  async execute<Result>(command: string, ...args: unknown[]): Promise<Result> {
    if (!this.client || !this.running) throw new Error('The server is not running.');
    const result: unknown = await this.client.sendRequest(ExecuteCommandRequest.type, { command, arguments: args });
    return result as Result;
  }

  /** Makes a request about a document. Rejects with the server's error. */
  async request<Result>(
    method: string,
    uri: vscode.Uri,
    params: object,
    token?: vscode.CancellationToken,
  ): Promise<Result> {
    if (!this.client || !this.running) throw new Error('The server is not running.');
    const textDocument = { uri: this.client.code2ProtocolConverter.asUri(uri) };
    return this.client.sendRequest<Result>(method, { textDocument, ...params }, token ?? NEVER);
  }

  /** Returns edits of the server as those of VS Code. */
  async textEdits(edits: readonly TextEdit[]): Promise<vscode.TextEdit[]> {
    if (!this.client) throw new Error('The server is not running.');
    return this.client.protocol2CodeConverter.asTextEdits([...edits]);
  }

  /** Requests the reason why there was no suggestion in a document, or in any. */
  async explain(uri: vscode.Uri | undefined): Promise<Explanation> {
    if (!this.client || !this.running) return { message: `${this.current.message} ${this.current.advice}`.trim() };
    const params = uri ? { textDocument: { uri: this.client.code2ProtocolConverter.asUri(uri) } } : {};
    return this.client.sendRequest<Explanation>('codegen-lsp/explain', params);
  }

  /** Requests which model suits this machine, which is measured when asked for. Rejects with the server's error. */
  async adviseModel(measure: 'no' | 'again', token = NEVER): Promise<MachineAdvice> {
    if (!this.client || !this.running) throw new Error('The server is not running.');
    return this.client.sendRequest<MachineAdvice>('codegen-lsp/modelAdvice', { measure }, token);
  }

  dispose(): void {
    void this.stop();
    this.changed.dispose();
  }

  private newClient(program: Program): LanguageClient {
    const [command = '', ...args] = program.command;
    // The library passes no other variables to the server.
    const env = withoutCurrentFolder({ ...process.env, PYTHONUTF8: '1', ...ownSettings().environment });
    const anywhere = this.languages.includes('*');
    const documentSelector = SCHEMES.flatMap((scheme) =>
      anywhere ? [{ scheme }] : this.languages.map((language) => ({ scheme, language })),
    );
    const options: LanguageClientOptions = {
      documentSelector,
      outputChannel: this.log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      // A server that fails while it starts is restarted, as one that dies later.
      initializationFailedHandler: (error: unknown) => {
        this.log.error(`The server did not begin: ${String(error)}`);
        return false;
      },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          // The client unregisters its features first; until then, another one can't register them.
          setTimeout(() => this.died(client), 0);
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
      middleware: {
        ...this.middleware,
        executeCommand: async (command, parameters: unknown[], next) => {
          this.awaited += 1;
          try {
            return (await next(command, parameters)) as unknown;
          } finally {
            this.awaited -= 1;
          }
        },
        // VS Code shows no message when a chosen action can't be resolved.
        resolveCodeAction: async (action, token, next) => {
          this.awaited += 1;
          try {
            return await next(action, token);
          } catch (error) {
            const cancelled = token.isCancellationRequested || error instanceof vscode.CancellationError;
            if (error instanceof Error && !cancelled)
              void vscode.window.showInformationMessage(`${action.title}: ${error.message}`);
            throw error;
          } finally {
            this.awaited -= 1;
          }
        },
        workspace: {
          configuration: ({ items }) => items.map(({ section }) => (section === SECTION ? serverSettings() : null)),
          // Without the section, whose unfiltered values would be sent: the server then asks for them as above.
          didChangeConfiguration: (_sections, next) => next(undefined),
        },
      },
    };
    const server = { command, args: [...args, 'serve'], options: { cwd: this.cwd, env } };
    const client: LanguageClient = new QuietClient(SECTION, 'codegen-lsp', server, options);
    client.onNotification('codegen-lsp/status', (status: Status) => {
      if (this.client === client) this.show(status);
    });
    client.onRequest(ShowMessageRequest.type, (params) => (this.awaited > 0 ? choose(params) : ask(params)));
    return client;
  }

  private died(client: LanguageClient): void {
    if (this.client !== client) return;
    this.client = undefined;
    const gone = client.dispose().catch(() => undefined);
    const now = Date.now();
    this.deaths = [...this.deaths.filter((at) => now - at < WITHIN), now];
    if (this.deaths.length > MOST_DEATHS) {
      const message = `The server ended ${this.deaths.length} times within a minute.`;
      this.show({ state: 'error', message, advice: 'Its log says why. Restart it by the menu.' });
      return;
    }
    this.show({ state: 'starting', message: 'The server ended and is started again.', advice: '' });
    const wait = FIRST_WAIT * 2 ** (this.deaths.length - 1);
    // Wait for the old client to be disposed: its registrations can't be made twice.
    const begin = () => {
      if (this.client === undefined && this.program) void this.start(this.program);
    };
    this.again = setTimeout(() => void gone.then(begin), wait);
  }
}

/** Shows a question that nobody waits for as a message with buttons: a list would take the keys that are typed. */
async function ask(params: ShowMessageRequestParams): Promise<MessageActionItem | null> {
  return (await vscode.window.showInformationMessage(params.message, ...(params.actions ?? []))) ?? null;
}

/** Shows a question about an action that the user has chosen as a list. */
async function choose(params: ShowMessageRequestParams): Promise<MessageActionItem | null> {
  const items = (params.actions ?? []).map((action) => ({ label: action.title, action }));
  // The focus may still be returning from a menu when the list opens.
  const chosen = await vscode.window.showQuickPick(items, { placeHolder: params.message, ignoreFocusOut: true });
  return chosen?.action ?? null;
}

/** A client that writes its messages to the log instead of interrupting the user. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }

  override warn(message: string, data?: unknown): void {
    super.warn(message, data, false);
  }

  override info(message: string, data?: unknown): void {
    super.info(message, data, false);
  }
}
