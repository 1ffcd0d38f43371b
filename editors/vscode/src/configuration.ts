/**
 * What the user has set. The server's settings are checked by the server; here are the extension's own, and the few of
 * the server's that decide what the server is sent at all.
 */

import * as vscode from 'vscode';

import known from './languages.json';

export const SECTION = 'codegen-lsp';

/** Settings of this extension, which the server doesn't know. */
export interface OwnSettings {
  /** A Python with codegen-lsp; empty to look for one. */
  readonly python: string;
  /** The whole command line of the server; empty for none. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** What is installed into the private environment; empty for the usual. */
  readonly package: string;
  readonly pipArguments: readonly string[];
}

/** The extension's settings. A value of the wrong type counts as not set; VS Code marks it where it is written. */
export function ownSettings(): OwnSettings {
  const section = vscode.workspace.getConfiguration(`${SECTION}.server`);
  return {
    python: text(section.get('python')),
    command: texts(section.get('command')),
    environment: textTable(section.get('environment')),
    package: text(section.get('package')),
    pipArguments: texts(section.get('pipArguments')),
  };
}

/** The section without the extension's own settings, as the server wants it. */
export function withoutOwn(section: unknown): unknown {
  if (!isTable(section)) return section;
  return Object.fromEntries(Object.entries(section).filter(([name]) => name !== 'server'));
}

/** Whether anything is suggested at all. */
export function enabled(): boolean {
  return vscode.workspace.getConfiguration(SECTION).get('enabled') !== false;
}

/** Whether anything is suggested in this language; the same rule as the server's. */
export function isOn(language: string): boolean {
  const table = languageTable();
  return table[language] ?? (table['*'] === true || known.on.includes(language));
}

/** All languages that are on, or `*`. */
export function languagesOn(): readonly string[] {
  const table = languageTable();
  if (table['*']) return ['*'];
  const named = Object.keys(table).filter((name) => table[name]);
  return [...new Set([...known.on, ...named])].sort();
}

/** What a language is called. */
export function languageName(language: string): string {
  return (known.names as Record<string, string>)[language] ?? language;
}

/** Turns suggestions on or off everywhere. */
export async function setEnabled(on: boolean): Promise<void> {
  const section = vscode.workspace.getConfiguration(SECTION);
  await section.update('enabled', on, targetOf(section, 'enabled'));
}

/** Turns suggestions in one language on or off. */
export async function setLanguage(language: string, on: boolean): Promise<void> {
  const section = vscode.workspace.getConfiguration(SECTION);
  const target = targetOf(section, 'languages');
  const all = section.inspect('languages');
  const before = target === vscode.ConfigurationTarget.Global ? all?.globalValue : all?.workspaceValue;
  await section.update('languages', { ...(isTable(before) ? before : {}), [language]: on }, target);
}

/** Where a setting must be written to be in force: in the workspace if it is set there, else for the user. */
function targetOf(section: vscode.WorkspaceConfiguration, name: string): vscode.ConfigurationTarget {
  const inspected = section.inspect(name);
  const { Global, Workspace } = vscode.ConfigurationTarget;
  return inspected?.workspaceValue === undefined ? Global : Workspace;
}

function languageTable(): Readonly<Record<string, boolean>> {
  const table = vscode.workspace.getConfiguration(SECTION).get('languages');
  const entries = isTable(table) ? Object.entries(table) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, boolean] => typeof entry[1] === 'boolean'));
}

function text(value: unknown): string {
  return typeof value === 'string' ? value.trim() : '';
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function textTable(value: unknown): Record<string, string> {
  const entries = isTable(value) ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
