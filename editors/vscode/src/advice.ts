/** Which model suits this machine: the server's advice as a list to choose from. */

import * as vscode from 'vscode';

import { megabytes, pullNamed, use } from './models';
import type { Program } from './program';
import type { Server } from './server';

/** A model, as the server's `codegen-lsp/modelAdvice` describes it. */
export interface ModelAdvice {
  readonly name: string;
  /** `embedded`, `installed`, or empty when it would have to be pulled. */
  readonly state: string;
  readonly verdict: 'within' | 'slow' | 'memory' | 'unknown';
  readonly reason: string;
  readonly firstTokenMs: number | null;
  readonly suggestionMs: number | null;
  /** False if the times are predicted. */
  readonly measured: boolean;
  readonly memoryMb: number;
  readonly downloadMb: number | null;
  readonly license: string;
  readonly needsConsent: boolean;
  readonly goodFor: string;
  /** The command that installs it, or empty. */
  readonly command: string;
}

export interface MachineAdvice {
  readonly recommendation: string;
  readonly recommended: string | null;
  readonly models: readonly ModelAdvice[];
  /** Null before the machine is measured. */
  readonly machine: object | null;
  /** The reason why figures are inexact, or empty. */
  readonly note: string;
  readonly aims: { readonly suggestionTokens: number };
}

type AdviceItem = vscode.QuickPickItem & { readonly row?: ModelAdvice };

const AGAIN = '$(refresh) Measure this machine again';

/** Measures this machine unless that was done before, lists the models, and runs or offers the chosen one. */
export async function adviseModel(server: Server, program: Program, cwd: string): Promise<void> {
  let advice = await told(server.adviseModel('no'));
  if (advice?.machine === null) advice = await measure(server);
  while (advice) {
    const chosen = await pick(advice);
    if (!chosen) return;
    if (chosen.row) return take(server, program, cwd, chosen.row);
    advice = await measure(server);
  }
}

/** Has the server measure this machine, with a progress that can cancel it; undefined if it is cancelled or fails. */
async function measure(server: Server): Promise<MachineAdvice | undefined> {
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: 'Measuring this machine', cancellable: true },
    (_, token) => told(server.adviseModel('again', token), token),
  );
}

/** Waits for the advice. Undefined after an error, which is shown unless the user has cancelled. */
async function told(
  asked: Promise<MachineAdvice>,
  token?: vscode.CancellationToken,
): Promise<MachineAdvice | undefined> {
  try {
    return await asked;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (!token?.isCancellationRequested) void vscode.window.showWarningMessage(message);
    return undefined;
  }
}

async function pick(advice: MachineAdvice): Promise<AdviceItem | undefined> {
  const groups: [string, readonly ModelAdvice[]][] = [
    ['within the aims for latency', advice.models.filter((row) => row.verdict === 'within')],
    ['too slow, or too large', advice.models.filter((row) => row.verdict !== 'within')],
  ];
  const items: AdviceItem[] = groups.flatMap(([label, rows]) => [
    { label, kind: vscode.QuickPickItemKind.Separator },
    ...rows.map((row) => itemOf(row, advice)),
  ]);
  items.push({ label: '', kind: vscode.QuickPickItemKind.Separator }, { label: AGAIN, detail: advice.note });
  return vscode.window.showQuickPick(items, {
    title: 'Which model suits this machine?',
    placeHolder: advice.recommendation,
    matchOnDetail: true,
    ignoreFocusOut: true,
  });
}

function itemOf(row: ModelAdvice, advice: MachineAdvice): AdviceItem {
  const { name, state, downloadMb, memoryMb, firstTokenMs, suggestionMs } = row;
  const parts = [row.verdict === 'within' ? '' : row.reason, `${megabytes(memoryMb)} of memory`, row.license, row.goodFor];
  if (firstTokenMs !== null && suggestionMs !== null) {
    const how = row.measured ? 'measured' : 'predicted';
    const times = `first token ${Math.round(firstTokenMs)} ms, ${advice.aims.suggestionTokens} tokens ${Math.round(suggestionMs)} ms`;
    parts.unshift(`${times} (${how})`);
  }
  return {
    label: name === advice.recommended ? `$(star-full) ${name}` : name,
    description: downloadMb === null ? state : `${megabytes(downloadMb)} to download`,
    detail: parts.filter((part) => part !== '').join('; '),
    row,
  };
}

/** Runs an installed model, and keeps the choice where the user wants; shows how another one is installed. */
async function take(server: Server, program: Program, cwd: string, row: ModelAdvice): Promise<void> {
  if (row.downloadMb === null) {
    const target = await chooseTarget(row.name);
    return target === undefined ? undefined : use(server, row.name, target);
  }
  const copy = 'Copy Command';
  const pull = 'Pull It Now';
  const detail = `${row.command}\n\nIt is a download of ${megabytes(row.downloadMb)}. Licence: ${row.license}. ${row.reason}.`;
  const answer = await vscode.window.showInformationMessage(`${row.name} is not installed.`, { modal: true, detail }, copy, pull);
  if (answer === copy) {
    await vscode.env.clipboard.writeText(row.command);
    vscode.window.setStatusBarMessage(`Codegen: copied ${row.command}`, 6000);
  }
  if (answer !== pull) return;
  const { name, license, needsConsent } = row;
  await pullNamed(server, program, cwd, { name, license, size_mb: row.downloadMb, needs_consent: needsConsent });
}

/** Asks where the choice of a model is kept. Settings of a workspace count only where it is trusted. */
async function chooseTarget(name: string): Promise<vscode.ConfigurationTarget | undefined> {
  const { Global, Workspace } = vscode.ConfigurationTarget;
  if (vscode.workspace.workspaceFolders === undefined || !vscode.workspace.isTrusted) return Global;
  const items = [
    { label: 'Everywhere', description: "in the user's settings", target: Global },
    { label: 'In this workspace', description: "in the workspace's settings", target: Workspace },
  ];
  return (await vscode.window.showQuickPick(items, { title: `Where shall ${name} be used?` }))?.target;
}
