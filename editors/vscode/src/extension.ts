/** Entry point: creates the parts of the extension and registers its commands. */

import { mkdir } from 'node:fs/promises';

import * as vscode from 'vscode';

import { adviseModel } from './advice';
import { Answers, askOnceReady, hideStale } from './completion';
import { enabled, isOn, languageName, languagesOn, SECTION, setEnabled, setLanguage } from './configuration';
import { PrivateEnvironment } from './environment';
import { showMenu } from './menu';
import { pullModel, selectModel } from './models';
import { findProgram, type Missing, type Program } from './program';
import { Reports, REPORT } from './reports';
import { documentAtHand, Server } from './server';
import { Sessions, VIEW } from './session/sessions';
import { showStatusBar } from './statusBar';

let server: Server | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel('codegen-lsp', { log: true });
  const storage = context.globalStorageUri.fsPath;
  await mkdir(storage, { recursive: true });
  const answers = new Answers(log);
  const environment = new PrivateEnvironment(storage, log);
  const reports = new Reports();
  const running = new Server(log, storage, answers.middleware);
  server = running;
  const sessions = new Sessions(running, context.extensionUri);
  const window = new Window(context, running, environment, reports, sessions, log, storage);
  context.subscriptions.push(
    log,
    running,
    showStatusBar(running, answers),
    hideStale(),
    askOnceReady(running, answers),
    vscode.workspace.registerTextDocumentContentProvider(REPORT, reports),
    vscode.window.registerWebviewPanelSerializer(VIEW, sessions),
    ...Object.entries(window.commands).map(([name, act]) => vscode.commands.registerCommand(`${SECTION}.${name}`, act)),
    vscode.workspace.onDidOpenTextDocument((document) => void window.needFor(document)),
    vscode.workspace.onDidChangeConfiguration((event) => void window.follow(event)),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void window.restart()),
  );
  await Promise.all(vscode.workspace.textDocuments.map((document) => window.needFor(document)));
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}

/** The commands of one window, and the state that they share. */
class Window {
  private finding: Promise<Program | undefined> | undefined;
  private told = false;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly server: Server,
    private readonly environment: PrivateEnvironment,
    private readonly reports: Reports,
    private readonly sessions: Sessions,
    private readonly log: vscode.LogOutputChannel,
    private readonly cwd: string,
  ) {}

  readonly commands: Record<string, () => unknown> = {
    menu: () => showMenu(this.server),
    trigger: () => vscode.commands.executeCommand('editor.action.inlineSuggest.trigger'),
    toggle: () => setEnabled(!enabled()),
    toggleLanguage: () => this.toggleLanguage(),
    explain: () => this.explain(),
    newSession: () => this.sessions.begin(),
    continueSession: () => this.sessions.goOn(),
    selectModel: () => this.withProgram((program) => selectModel(this.server, program, this.cwd)),
    pullModel: () => this.withProgram((program) => pullModel(this.server, program, this.cwd)),
    adviseModel: () => this.withProgram((program) => adviseModel(this.server, program, this.cwd)),
    statistics: () => this.withProgram((program) => this.reports.show('Statistics', program, ['stats'], this.cwd)),
    doctor: () => this.withProgram((program) => this.reports.show('Doctor', program, ['doctor'], this.cwd)),
    restart: () => this.restart(),
    log: () => this.log.show(),
    installServer: () => this.install(),
    removeServer: () => this.remove(),
    choosePython: () => this.choosePython(),
    walkthrough: () =>
      vscode.commands.executeCommand('workbench.action.openWalkthrough', `${this.context.extension.id}#start`, false),
  };

  /** Starts the server if this document is the first that it serves. */
  async needFor(document: vscode.TextDocument): Promise<void> {
    if (this.finding !== undefined || !enabled() || !isOn(document.languageId)) return;
    if (document.uri.scheme === REPORT || document.uri.scheme === 'output') return;
    await this.start();
  }

  /** Finds the server again and restarts it. */
  async restart(): Promise<void> {
    this.finding = undefined;
    await this.start();
  }

  /** Applies changed settings of the extension; the client sends those of the server. */
  async follow(event: vscode.ConfigurationChangeEvent): Promise<void> {
    if (!event.affectsConfiguration(SECTION)) return;
    if (this.finding === undefined) {
      const documents = vscode.workspace.textDocuments;
      await Promise.all(documents.map((document) => this.needFor(document)));
      return;
    }
    const moved = ['command', 'python', 'environment'].some((name) =>
      event.affectsConfiguration(`${SECTION}.server.${name}`),
    );
    const served = this.server.served;
    const more = languagesOn().some((language) => !served.includes(language) && !served.includes('*'));
    if (moved || (more && this.server.running)) await this.restart();
  }

  private async start(): Promise<void> {
    const program = await this.find();
    if (program) await this.server.restart(program);
  }

  private find(): Promise<Program | undefined> {
    this.finding ??= this.look();
    return this.finding;
  }

  private async look(): Promise<Program | undefined> {
    const found = await findProgram(this.cwd, this.environment.python);
    if ('command' in found) return found;
    await this.server.stop();
    const advice = 'Install the server by the menu, or choose the Python that has it.';
    this.server.show({ state: 'missing', message: found.reason, advice });
    this.log.warn(found.reason);
    if (!this.told) void this.offer(found);
    this.told = true;
    return undefined;
  }

  private async offer({ reason }: Missing): Promise<void> {
    const install = 'Install…';
    const choose = 'Choose Python…';
    const chosen = await vscode.window.showInformationMessage(`Codegen: ${reason}`, install, choose, 'Not Now');
    if (chosen === install) await this.install();
    if (chosen === choose) await this.choosePython();
  }

  private async withProgram(act: (program: Program) => Promise<void>): Promise<void> {
    if ((await this.find()) === undefined) this.finding = undefined;
    const program = await this.find();
    if (program) return act(program);
    void vscode.window.showWarningMessage(`${this.server.status.message} ${this.server.status.advice}`);
  }

  private async toggleLanguage(): Promise<void> {
    const language = documentAtHand()?.languageId;
    if (language === undefined) return void vscode.window.showInformationMessage('Open a file of the language first.');
    const on = !isOn(language);
    await setLanguage(language, on);
    vscode.window.setStatusBarMessage(`Codegen: suggestions are ${on ? 'on' : 'off'} for ${languageName(language)}`, 4000);
  }

  private async explain(): Promise<void> {
    const document = documentAtHand();
    const { message } = await this.server.explain(document && isOn(document.languageId) ? document.uri : undefined);
    const log = 'Show Log';
    if ((await vscode.window.showInformationMessage(message, log)) === log) this.log.show();
  }

  private async install(): Promise<void> {
    const detail =
      `A virtual environment is made in ${this.cwd} and "${this.environment.package}" is installed there with pip, ` +
      'together with PyTorch: a download of up to 3 GB. Nothing else on this machine is changed; ' +
      '"Codegen: Remove the Private Environment" takes it all back.';
    const yes = 'Install';
    const question = 'Install codegen-lsp in an environment of its own?';
    if ((await vscode.window.showInformationMessage(question, { modal: true, detail }, yes)) !== yes) return;
    await this.server.stop();
    const problem = await vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, title: 'Installing codegen-lsp', cancellable: true },
      (progress, token) => this.environment.install(progress, token),
    );
    this.told = true;
    await this.restart();
    if (problem === '') return void vscode.window.showInformationMessage('Codegen is installed. Open a file and type.');
    const log = 'Show Log';
    if ((await vscode.window.showWarningMessage(problem, log)) === log) this.log.show();
  }

  private async remove(): Promise<void> {
    if (this.environment.python === '') {
      return void vscode.window.showInformationMessage('There is no private environment.');
    }
    const yes = 'Remove';
    const detail = 'Models that were pulled stay; `codegen-lsp models remove` removes those.';
    const question = 'Remove the private environment of Codegen?';
    if ((await vscode.window.showWarningMessage(question, { modal: true, detail }, yes)) !== yes) return;
    await this.server.stop();
    await this.environment.remove();
    this.told = true;
    await this.restart();
    vscode.window.setStatusBarMessage('Codegen: the private environment is removed', 6000);
  }

  private async choosePython(): Promise<void> {
    const [file] = (await vscode.window.showOpenDialog({ title: 'The Python that has codegen-lsp', openLabel: 'Use' })) ?? [];
    if (!file) return;
    const section = vscode.workspace.getConfiguration(`${SECTION}.server`);
    await section.update('python', file.fsPath, vscode.ConfigurationTarget.Global);
  }
}
