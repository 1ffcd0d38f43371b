/**
 * The user's settings: the extension's own, and those of the server. The server checks the values itself.
 *
 * A folder that is merely opened brings settings of its own. VS Code before 1.132 lets even those of
 * `restrictedConfigurations` through when they are written as nested tables (microsoft/vscode#330310), so they are
 * filtered here again: while the workspace is not trusted, the user's value counts, and for settings that name where
 * text is sent (scope `machine`) it always does. Unknown names are not passed on.
 */

import * as vscode from 'vscode';

import known from './languages.json';
import names from './settings.json';

export const SECTION = 'codegen-lsp';

/** Settings of this extension that are not sent to the server. */
export interface OwnSettings {
  /** A Python with codegen-lsp; empty to look for one. */
  readonly python: string;
  /** The command line of the server; empty to look for a Python. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** The package that is installed into the private environment; empty for the default. */
  readonly package: string;
  readonly pipArguments: readonly string[];
}

/** Values that replace any other while the workspace is not trusted. Verification runs code of the workspace. */
const UNTRUSTED: Readonly<Record<string, unknown>> = { verify_refactorings: 'off' };

/** Returns the extension's settings. A value of the wrong type counts as not set; VS Code marks it in the editor. */
export function ownSettings(): OwnSettings {
  return {
    python: text(read('server.python')),
    command: texts(read('server.command')),
    environment: textTable(read('server.environment')),
    package: text(read('server.package')),
    pipArguments: texts(read('server.pipArguments')),
  };
}

/** Returns the settings of the server by their names. */
export function serverSettings(): Record<string, unknown> {
  const found = names.known.map((name): [string, unknown] => [name, read(name)]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined));
}

/** Returns a setting's value; one that only the user may set (while there is no trust, or ever), the user's. */
function read(name: string): unknown {
  const section = vscode.workspace.getConfiguration(SECTION);
  if (!names.userOnly.includes(name)) {
    if (vscode.workspace.isTrusted) return section.get(name);
    if (name in UNTRUSTED) return UNTRUSTED[name];
    if (!names.restricted.includes(name)) return section.get(name);
  }
  const found = section.inspect(name);
  return found?.globalValue ?? found?.defaultValue;
}

/** Returns true when suggestions are on. */
export function enabled(): boolean {
  return vscode.workspace.getConfiguration(SECTION).get('enabled') !== false;
}

/** Returns true when suggestions are on in this language, by the same rule as the server's. */
export function isOn(language: string): boolean {
  const table = languageTable();
  return table[language] ?? (table['*'] === true || known.on.includes(language));
}

/** Returns all languages that are on, or `*`. */
export function languagesOn(): readonly string[] {
  const table = languageTable();
  if (table['*']) return ['*'];
  const named = Object.keys(table).filter((name) => table[name]);
  return [...new Set([...known.on, ...named])].sort();
}

/** Returns the display name of a language. */
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

/** Returns the target where a new value takes effect: the workspace if the setting is set there, else the user. */
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
