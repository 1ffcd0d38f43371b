/**
 * The page of a session's panel. It shows the state that the extension sends, and tells what the user wants; what is
 * typed, folded and open in the page itself outlives drawing anew.
 */

import type { Asked, FromPage, Place, SessionState, ShownTurn, ToPage } from '../src/session/messages';
import { button, h } from './elements';
import { outcomeOf, VERDICTS, verdictOf } from './outcome';
import { coloured } from './python';

interface VsCode {
  postMessage(message: FromPage): void;
  getState(): unknown;
  setState(state: unknown): void;
}

declare function acquireVsCodeApi(): VsCode;

/** A form that is open at a turn. */
type Form = 'edit' | 'change' | 'insert';

const vscode = acquireVsCodeApi();
const END: Place = { turn: null, insert: false };

let state: SessionState | undefined;
let folded = false;
/** Turns whose code is folded other than the rest, by their requests. */
const folds = new Map<string, boolean>();
let open: { readonly turn: number; readonly form: Form } | undefined;
/** Text in the fields, by their names. */
const drafts = new Map<string, string>();
/** Turns as they are drawn, to draw those alone that have changed. */
let drawn: { readonly key: string; readonly node: HTMLElement }[] = [];

const header = h('header');
const list = h('main', { 'aria-label': 'Steps' });
const status = h('div', { role: 'status', class: 'status' });
const asking = h('div');
const working = h('div');
const notices = h('div');
const acting = h('div');
const foot = h('div', { class: 'foot' });
const field = fieldOf('next', 'What should the program do next?', () => send(END, 'next'));
const next = h('div', { class: 'ask' }, field, acting);
let wasAsked = false;
/** Name of the element that had the focus last. */
let focused: string | null = null;
document.body.append(
  header,
  list,
  h('footer', {}, working, asking, notices, status, next, foot),
);
document.addEventListener('focusin', ({ target }) => {
  focused = target instanceof Element ? target.getAttribute('data-focus') : null;
});

function post(message: FromPage): void {
  vscode.postMessage(message);
}

// What the user does.

function send(place: Place, name: string): void {
  const request = drafts.get(name)?.trim() ?? '';
  if (request && canAct()) post({ type: 'ask', place, request, answered: false });
}

function canAct(): boolean {
  return state !== undefined && state.trusted && state.obstacle === '' && state.busy === null;
}

function openForm(turn: number, form: Form, text: string): void {
  const before = open;
  open = { turn, form };
  drafts.set(form, text);
  if (before && before.turn !== turn) drawn = [];
  draw();
  const area = document.querySelector<HTMLTextAreaElement>(`[data-focus="${form}"]`);
  area?.focus();
  area?.setSelectionRange(text.length, text.length);
  area?.closest('form')?.scrollIntoView({ block: 'nearest' });
}

function closeForm(): void {
  const before = open;
  open = undefined;
  draw();
  if (before) focusOn(`${before.form}-${before.turn}`);
}

function focusOn(name: string): void {
  document.querySelector<HTMLElement>(`[data-focus="${CSS.escape(name)}"]`)?.focus();
}

// Parts of the page.

/** Returns a field of several lines: Enter sends it, Shift+Enter begins a new line, Escape closes its form. */
function fieldOf(name: string, label: string, submit: () => void, code = false): HTMLTextAreaElement {
  const area = h('textarea', {
    rows: '1',
    'data-focus': name,
    'aria-label': label,
    placeholder: label,
    spellcheck: code ? 'false' : 'true',
    ...(code ? { class: 'code' } : {}),
  });
  area.value = drafts.get(name) ?? '';
  const fit = () => {
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener('input', () => {
    drafts.set(name, area.value);
    fit();
  });
  area.addEventListener('keydown', (event) => {
    const plain = !event.shiftKey && !event.altKey && !event.isComposing;
    const sends = code ? event.ctrlKey || event.metaKey : plain;
    if (event.key === 'Enter' && sends) {
      event.preventDefault();
      submit();
    }
    if (code && event.key === 'Tab' && plain) {
      // Escape leaves the field, as in the editor.
      event.preventDefault();
      area.setRangeText('    ', area.selectionStart, area.selectionEnd, 'end');
      area.dispatchEvent(new Event('input'));
    }
  });
  requestAnimationFrame(fit);
  return area;
}

function formOf(turn: ShownTurn, at: number): HTMLElement | null {
  if (open?.turn !== at) return null;
  const { form } = open;
  const number = at + 1;
  const submit = () => {
    const text = drafts.get(form) ?? '';
    if (!canAct()) return;
    if (form === 'edit') {
      post({ type: 'edit', turn: at, code: text });
      closeForm();
    } else send({ turn: at, insert: form === 'insert' }, form);
  };
  const [label, act, hint] = {
    edit: [`Code of step ${number}`, 'Save and Run', 'Ctrl+Enter saves, Escape leaves it as it was.'],
    change: [`What should step ${number} do?`, 'Write Anew', laterHint(at + 1)],
    insert: [`What should be done before step ${number}?`, 'Insert', laterHint(at)],
  }[form] as [string, string, string];
  const shown = h(
    'form',
    { class: 'inline', 'aria-label': label },
    h('label', {}, label),
    fieldOf(form, label, submit, form === 'edit'),
    h('div', { class: 'row' }, button(act, submit, { class: 'primary' }), button('Cancel', closeForm), h('span', { class: 'hint' }, hint)),
  );
  shown.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') closeForm();
  });
  if (turn.code === '' && form === 'edit') shown.classList.add('empty');
  return shown;
}

function laterHint(first: number): string {
  const later = state?.turns.slice(first).filter((turn) => !turn.edited).length ?? 0;
  if (later === 0 || !state?.rewriteLater) return '';
  return later === 1 ? 'The later step is written anew.' : `The ${later} later steps are written anew.`;
}

function turnOf(turn: ShownTurn, at: number): HTMLElement {
  const number = at + 1;
  const kind = turn.outcome?.kind;
  const [sign, meaning] = kind ? VERDICTS[kind] : ['', ''];
  const busy = state?.busy?.turn === at;
  const off = !canAct();
  const act = (type: 'retry' | 'remove' | 'show') => () => post({ type, turn: at });
  const tool = (label: string, name: string, run: () => void, more: Record<string, string | boolean> = {}) =>
    button(label, run, { 'aria-label': `${label}, step ${number}`, 'data-focus': `${name}-${at}`, disabled: off, ...more });
  const tools = h(
    'div',
    { class: 'tools', role: 'toolbar', 'aria-label': `Step ${number}` },
    tool('Edit', 'edit', () => openForm(at, 'edit', turn.code), { title: 'Change the code yourself' }),
    tool('Retry', 'retry', act('retry'), { title: 'Write other candidates' }),
    tool('Change', 'change', () => openForm(at, 'change', turn.request), { title: 'Ask for something else here' }),
    tool('Insert Above', 'insert', () => openForm(at, 'insert', ''), { title: 'Ask for a step before this one' }),
    tool('Remove', 'remove', act('remove')),
    tool('Show in File', 'show', act('show'), { disabled: false }),
  );
  const heading = h(
    'h2',
    { id: `step-${at}` },
    h('span', { class: 'number' }, h('span', { class: 'hidden' }, 'Step '), String(number)),
    h('span', { class: 'request' }, ...quoted(turn.request)),
    turn.edited && h('span', { class: 'yours', title: 'You wrote or changed this code' }, 'yours'),
    sign !== '' && h('span', { class: `verdict ${kind ?? ''}`, title: meaning, role: 'img', 'aria-label': meaning }, sign),
  );
  return h(
    'article',
    { 'aria-labelledby': `step-${at}`, class: busy ? 'busy' : '', 'data-turn': String(at) },
    heading,
    open?.turn === at && open.form === 'insert' && formOf(turn, at),
    open?.turn === at && open.form === 'change' && formOf(turn, at),
    open?.turn === at && open.form === 'edit' ? formOf(turn, at) : codeOf(turn, at, off),
    choicesOf(turn, at, off),
    outcomeOf(turn, number, (file) => post({ type: 'save', turn: at, file })),
    busy && workingOf(state?.busy?.text ?? ''),
    tools,
  );
}

/** Returns a text whose parts in backticks are code. */
function quoted(text: string): (string | HTMLElement)[] {
  return text.split(/`([^`\n]+)`/).map((part, at) => (at % 2 ? h('code', {}, part) : part));
}

function codeOf(turn: ShownTurn, at: number, off: boolean): HTMLElement {
  if (turn.code.trim() === '') {
    const place = { turn: at, insert: false };
    const write = () => post({ type: 'ask', place, request: turn.request, answered: false });
    const writing = button('Write This Step', write, { class: 'primary', 'data-focus': `write-${at}`, disabled: off });
    return h('div', { class: 'nothing' }, h('p', {}, 'There is no code yet.'), writing);
  }
  const count = turn.code.split('\n').length;
  const lines = count === 1 ? '1 line' : `${count} lines`;
  const summary = h('summary', { 'data-focus': `code-${at}` }, 'Code', h('span', { class: 'count' }, lines));
  const code = h('pre', { class: 'code', tabindex: '0', 'aria-label': `Code of step ${at + 1}` }, coloured(turn.code));
  const details = h('details', { open: !(folds.get(turn.request) ?? folded) }, summary, code);
  details.addEventListener('toggle', () => folds.set(turn.request, !details.open));
  return details;
}

function choicesOf(turn: ShownTurn, at: number, off: boolean): HTMLElement | null {
  if (turn.choices.length < 2) return null;
  const buttons = turn.choices.map((choice, number) => {
    const taken = choice.code === turn.code;
    const [sign] = choice.code.trim() === '' ? ['∅'] : VERDICTS[choice.kind];
    const told = verdictOf(choice);
    return h(
      'button',
      {
        type: 'button',
        class: `choice ${choice.kind}`,
        'aria-pressed': String(taken),
        'aria-label': `Candidate ${number + 1}: ${told}`,
        title: `${told}\n\n${choice.code}`,
        'data-focus': `choice-${at}-${number}`,
        disabled: off,
        onclick: () => {
          if (!taken) post({ type: 'choose', turn: at, choice: number });
        },
      },
      `${number + 1}`,
      h('span', { class: 'mark', 'aria-hidden': 'true' }, sign),
    );
  });
  const group = { class: 'choices', role: 'group', 'aria-label': `Candidates for step ${at + 1}` };
  return h('div', group, h('span', { class: 'label' }, 'Candidates'), ...buttons);
}

function askedOf(asked: Asked): HTMLElement {
  const answers = asked.questions.map(() => '');
  const go = () => {
    if (!canAct()) return;
    const given = answers.map((answer) => answer.trim()).filter((answer) => answer !== '');
    post({ type: 'ask', place: asked.place, request: [asked.request, ...given].join('\n'), answered: true });
  };
  const leave = () => post({ type: 'forget' });
  const fields = asked.questions.map((question, at) => {
    const input = h('input', { type: 'text', id: `answer-${at}`, 'data-focus': `answer-${at}` });
    input.addEventListener('input', () => (answers[at] = input.value));
    input.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.isComposing) return;
      event.preventDefault();
      const next = document.getElementById(`answer-${at + 1}`);
      if (next) next.focus();
      else go();
    });
    return h('div', { class: 'question' }, h('label', { for: `answer-${at}` }, question.text), input);
  });
  const buttons = h('div', { class: 'row' }, button('Go On', go, { class: 'primary' }), button('Cancel', leave));
  const hint = h('span', { class: 'hint' }, 'Without an answer, the model guesses.');
  buttons.append(hint);
  const form = h('section', { class: 'asked', 'aria-label': 'Before it is written' }, h('p', { class: 'request' }, ...quoted(asked.request)));
  form.append(...fields, buttons);
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') leave();
  });
  return form;
}

function headerOf(shown: SessionState): readonly HTMLElement[] {
  const off = !canAct();
  const none = shown.turns.length === 0;
  const tool = (label: string, type: 'run' | 'undo' | 'redo', disabled: boolean, title: string) =>
    button(label, () => post({ type }), { 'data-focus': type, disabled, title });
  const fold = () => {
    folded = !folded;
    folds.clear();
    drawn = [];
    draw();
  };
  return [
    h('h1', {}, shown.name),
    h(
      'div',
      { class: 'tools', role: 'toolbar', 'aria-label': 'Session' },
      tool('Run All', 'run', off || none, 'Run the program in the sandbox'),
      tool('Undo', 'undo', shown.busy !== null, 'Undo the last step in the editor'),
      tool('Redo', 'redo', shown.busy !== null, 'Redo it in the editor'),
      button(folded ? 'Unfold Code' : 'Fold Code', fold, { 'data-focus': 'fold', disabled: none }),
    ),
  ];
}

function noticesOf(shown: SessionState): readonly HTMLElement[] {
  const found: HTMLElement[] = [];
  const row = (kind: string, text: string, ...more: HTMLElement[]) =>
    found.push(h('div', { class: `notice ${kind}`, ...(kind === 'error' ? { role: 'alert' } : {}) }, h('p', {}, text), ...more));
  if (!shown.trusted) {
    const trust = button('Manage Trust', () => post({ type: 'trust' }));
    row('warning', 'This workspace is not trusted, so nothing is written or run.', trust);
  } else if (shown.obstacle) row('warning', shown.obstacle);
  if (shown.notice) row(shown.notice.kind, shown.notice.text, button('Dismiss', () => post({ type: 'forget' }), { class: 'quiet' }));
  return found;
}

function actOf(shown: SessionState): HTMLElement {
  if (shown.busy) return button('Stop', () => post({ type: 'stop' }), { 'data-focus': 'stop' });
  return button('Write', () => send(END, 'next'), { class: 'primary', disabled: !canAct(), 'data-focus': 'write' });
}

function workingOf(text: string): HTMLElement {
  return h('p', { class: 'working' }, h('span', { class: 'spinner', 'aria-hidden': 'true' }), `${text}…`);
}

function footOf(shown: SessionState): readonly HTMLElement[] {
  const found: HTMLElement[] = [];
  if (shown.turns.length > 1) {
    const box = h('input', { type: 'checkbox', id: 'rewrite', checked: shown.rewriteLater, 'data-focus': 'rewrite' });
    box.addEventListener('change', () => post({ type: 'rewriteLater', on: box.checked }));
    found.push(h('label', { for: 'rewrite' }, box, 'When a step changes, write the later ones anew, except yours'));
  }
  if (shown.smallModel) {
    const text = 'The model that comes along completes lines; steps like these need a larger one. ';
    const other = button('Switch Model…', () => post({ type: 'switchModel' }), { class: 'link' });
    found.push(h('p', { class: 'hint' }, text, other));
  }
  return found;
}

function welcome(): HTMLElement {
  return h(
    'section',
    { class: 'welcome' },
    h('h2', {}, 'Say in steps what the program should do.'),
    h('p', {}, 'Each step becomes a comment in the file, and the model writes the code below it. It is run in a sandbox, and you see at once what it does.'),
    h('p', {}, 'An example decides between candidates: ', h('code', {}, 'Sum x. `x = [1, 2]` → `3`'), ', or ', h('code', {}, 'f(2) → 4')),
  );
}

// Drawing.

function draw(): void {
  if (!state) return;
  const shown = state;
  replace(header, headerOf(shown), [shown.name, canAct(), shown.busy, shown.turns.length === 0, folded]);
  drawTurns(shown);
  status.textContent = shown.busy ? `${shown.busy.text}…` : '';
  const pending = shown.busy?.turn === shown.turns.length ? shown.busy.text : '';
  replace(asking, shown.asked ? [askedOf(shown.asked)] : [], [shown.asked]);
  replace(working, pending ? [workingOf(pending)] : [], [pending]);
  replace(notices, noticesOf(shown), [shown.notice, shown.trusted, shown.obstacle]);
  next.hidden = shown.asked !== null;
  field.disabled = !shown.trusted || shown.obstacle !== '';
  replace(acting, [actOf(shown)], [shown.busy !== null, canAct()]);
  replace(foot, footOf(shown), [shown.turns.length > 1, shown.rewriteLater, shown.smallModel]);
  if (shown.asked && !wasAsked) focusOn('answer-0');
  wasAsked = shown.asked !== null;
  // A button that was pressed is disabled while its work goes on, and loses the focus.
  if (document.activeElement === document.body && focused) focusOn(focused);
  vscode.setState({ uri: shown.uri, rewriteLater: shown.rewriteLater });
}

const contents = new WeakMap<HTMLElement, string>();

/** Draws a part anew if what it depends on has changed. */
function replace(part: HTMLElement, children: readonly HTMLElement[], depends: unknown): void {
  const key = JSON.stringify(depends);
  if (contents.get(part) === key) return;
  contents.set(part, key);
  part.replaceChildren(...children);
}

function drawTurns(shown: SessionState): void {
  if (open && open.turn >= shown.turns.length) open = undefined;
  const off = !canAct();
  const before = drawn.length;
  drawn = shown.turns.map((turn, at) => {
    const form = open?.turn === at ? open.form : '';
    const busy = shown.busy?.turn === at ? shown.busy.text : '';
    const key = JSON.stringify([turn, form, busy, off, form ? shown.rewriteLater : '', form ? shown.turns.length : '']);
    const old = drawn[at];
    return old?.key === key ? old : { key, node: turnOf(turn, at) };
  });
  const nodes = drawn.map(({ node }) => node);
  const same = list.children.length === nodes.length && nodes.every((node, at) => list.children[at] === node);
  if (shown.turns.length === 0) list.replaceChildren(welcome());
  else if (!same) list.replaceChildren(...nodes);
  if (shown.turns.length > before) bringIntoView(nodes.at(-1));
}

function focusTurn(turn: number): void {
  document.querySelector(`[data-turn="${turn}"]`)?.scrollIntoView({ block: 'start' });
  const write = document.querySelector<HTMLElement>(`[data-focus="write-${turn}"]`);
  if (write) write.focus();
  else focusOn(`code-${turn}`);
}

/** Scrolls to a turn, and again when its pictures have their size. */
function bringIntoView(node: HTMLElement | undefined): void {
  if (!node) return;
  const scroll = () => node.scrollIntoView({ block: node.offsetHeight > list.clientHeight ? 'start' : 'nearest' });
  scroll();
  for (const picture of node.querySelectorAll('img')) picture.addEventListener('load', scroll, { once: true });
}

window.addEventListener('message', ({ data }: MessageEvent<ToPage>) => {
  switch (data.type) {
    case 'state':
      state = data.state;
      draw();
      break;
    case 'taken':
      if (data.place.turn === null) {
        drafts.delete('next');
        field.value = '';
        field.dispatchEvent(new Event('input'));
      } else open = undefined;
      draw();
      break;
    case 'focus':
      if (data.turn === null) field.focus();
      else focusTurn(data.turn);
  }
});

post({ type: 'ready' });
