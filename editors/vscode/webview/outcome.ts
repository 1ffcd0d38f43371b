/** What a turn did: its output, its value, tables, pictures, and errors in plain words. */

import type { Choice, Kind, MadeFile, Outcome, ShownTurn, Table } from '../src/session/messages';
import { button, h } from './elements';

const PICTURES: Readonly<Record<string, string>> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  gif: 'image/gif',
  svg: 'image/svg+xml',
};

/** The sign of a verdict, and what it means. */
export const VERDICTS: Readonly<Record<Kind, readonly [sign: string, meaning: string]>> = {
  right: ['✓', 'the examples hold'],
  ran: ['•', 'it ran'],
  contradicts: ['✗', 'an example does not hold'],
  failed: ['✗', 'it failed'],
  timeout: ['✗', 'it was stopped'],
};

/** Returns what is told about a candidate. */
export function verdictOf({ kind, reason, code }: Choice): string {
  const [, meaning] = VERDICTS[kind];
  const what = code.trim() === '' ? 'it has no code' : meaning;
  return reason ? `${what}: ${reason}` : what;
}

/** Returns what a turn did, or null if that is nothing. */
export function outcomeOf(turn: ShownTurn, number: number, save: (file: number) => void): HTMLElement | null {
  const { outcome, output } = turn;
  if (!outcome) {
    if (!output) return null;
    const shown = h('pre', { class: 'output', tabindex: '0', 'aria-label': `What step ${number} did` }, output);
    return h('div', { class: 'outcome' }, shown);
  }
  const parts = [
    outcome.output.trim() !== '' && labelled('Printed', h('pre', { class: 'output', tabindex: '0' }, outcome.output.trimEnd())),
    ...outcome.tables.map((table) => tableOf(table)),
    outcome.value !== '' && !outcome.tables.some(({ name }) => name === '') && valueOf(outcome.value),
    ...outcome.files.map((file, at) => fileOf(file, number, () => save(at))),
    failureOf(outcome),
  ].filter((part) => part !== null && part !== false);
  return parts.length > 0 ? h('div', { class: 'outcome' }, ...parts) : null;
}

function labelled(label: string, content: HTMLElement): HTMLElement {
  content.setAttribute('aria-label', label);
  return h('div', { class: 'labelled' }, h('span', { class: 'label' }, label), content);
}

function valueOf(value: string): HTMLElement {
  return labelled('Value', h('pre', { class: 'output value', tabindex: '0' }, value));
}

function failureOf(outcome: Outcome): HTMLElement | null {
  const { kind, reason, error, explanation } = outcome;
  if (kind === 'right' || kind === 'ran') return null;
  const plain =
    kind === 'contradicts' ? `An example does not hold: ${reason}` : sentence(explanation || reason || error);
  const exact = error && !plain.includes(error.slice(1)) ? error : '';
  return h(
    'div',
    { class: 'failure' },
    h('span', { class: 'sign', 'aria-hidden': 'true' }, '✗'),
    h('div', {}, h('p', {}, plain), exact !== '' && h('code', { class: 'exact' }, exact)),
  );
}

function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

function tableOf({ name, heads, rows, dropped }: Table): HTMLElement {
  const caption = name || 'Value';
  const head = heads.length > 0 && h('thead', {}, h('tr', {}, ...heads.map((text) => h('th', { scope: 'col' }, text))));
  const body = rows.map((row) => h('tr', {}, ...row.map((text) => h('td', { class: isNumber(text) ? 'number' : '' }, text))));
  const more = dropped > 0 && h('p', { class: 'more' }, dropped === 1 ? '1 more row' : `${dropped} more rows`);
  const table = h('table', {}, head, h('tbody', {}, ...body));
  table.setAttribute('aria-label', caption);
  const scrolls = h('div', { class: 'scrolls', tabindex: '0', role: 'group', 'aria-label': `Table: ${caption}` }, table);
  return h('div', { class: 'labelled' }, h('span', { class: 'label' }, caption), scrolls, more);
}

function isNumber(text: string): boolean {
  return text.trim() !== '' && Number.isFinite(Number(text));
}

function fileOf(file: MadeFile, number: number, save: () => void): HTMLElement {
  const type = PICTURES[file.name.split('.').pop()?.toLowerCase() ?? ''];
  const saving = button('Save…', save, { class: 'quiet', 'aria-label': `Save ${file.name}` });
  const source = `data:${type ?? ''};base64,${file.base64}`;
  const picture = type !== undefined && h('img', { src: source, alt: `Picture that step ${number} drew` });
  return h('figure', {}, picture, h('figcaption', {}, h('span', {}, file.name), saving));
}
