// The editor: a textarea for input, and above the same place a drawing of the visible lines with the ghost text.
// Text is only ever inserted as text nodes.

const LINE = 21;
const WORDS = new Set(("and as assert async await break case class const continue def del do elif else enum except export " +
  "extends False finally for from func function global if import in interface is lambda let match new None nonlocal not " +
  "null or package pass private public raise return self static struct switch this throw True try type typeof var void " +
  "while with yield true false").split(" "));
const PIECES = /(#.*|\/\/.*)|("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|`(?:\\.|[^`\\])*`?)|(\b\d[\w.]*)|([A-Za-z_]\w*)/g;
const MOST_HIGHLIGHTED = 2000;

export class Editor {
  constructor(input, view, changed) {
    this.input = input;
    this.view = view;
    this.changed = changed;
    this.ghost = null; // { before, after, text, replaces }: the document around the cursor, and what is to be inserted
    this.leaving = false;
    input.addEventListener("input", () => this.edited());
    input.addEventListener("scroll", () => this.draw());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("pointerdown", () => this.dismiss());
    document.addEventListener("selectionchange", () => {
      if (this.ghost && document.activeElement === input && !this.rest()) this.dismiss();
    });
    new ResizeObserver(() => this.draw()).observe(input);
  }

  get before() { return this.input.value.slice(0, this.input.selectionStart); }
  get after() { return this.input.value.slice(this.input.selectionEnd); }

  // The part of the ghost text that is not typed yet; empty if the document does not fit it any more.
  rest() {
    const { ghost, input } = this;
    if (!ghost || input.selectionStart !== input.selectionEnd) return "";
    const before = this.before;
    if (this.after !== ghost.after || before.length < ghost.before.length || !before.startsWith(ghost.before)) return "";
    const typed = before.slice(ghost.before.length);
    return ghost.text.startsWith(typed) ? ghost.text.slice(typed.length) : "";
  }

  show(ghost) {
    this.ghost = ghost;
    if (!this.rest()) this.ghost = null;
    this.draw();
  }

  dismiss() {
    if (!this.ghost) return;
    this.ghost = null;
    this.draw();
    this.changed("dismissed");
  }

  // Ask for another suggestion, and show none until it comes.
  renew() {
    this.ghost = null;
    this.edited();
  }

  set(text, cursor) {
    this.input.value = text;
    this.input.setSelectionRange(cursor, cursor);
    this.renew();
  }

  // Go to a line, counted from 1, and select it.
  go(line) {
    const lines = this.input.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    this.dismiss();
    this.input.focus();
    this.input.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
    this.input.scrollTop = Math.max(0, (line - 5) * LINE);
  }

  // Insert as the user does, so that it can be undone.
  insert(text, replaced = 0) {
    const { input } = this, at = input.selectionStart;
    if (replaced) input.setSelectionRange(at, at + replaced);
    if (!document.execCommand("insertText", false, text)) {
      input.setRangeText(text, at, at + replaced, "end");
      this.edited();
    }
  }

  accept(whole) {
    const rest = this.rest(), ghost = this.ghost;
    if (!rest) return;
    if (!whole) {
      const part = /^\s*(?:\w+|[^\w\s]+)?/u.exec(rest)[0] || rest;
      if (part.length < rest.length) {
        this.insert(part);
        return;
      }
    }
    this.ghost = null;
    this.insert(rest, ghost.replaces.length);
    this.changed("accepted");
  }

  key(event) {
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey, shown = this.rest() !== "";
    if (event.isComposing) return;
    if (event.key === "Escape") {
      this.dismiss();
      this.leaving = true;
      return;
    }
    if (event.key === "Tab" && plain && !event.shiftKey) {
      if (this.leaving && !shown) return;
      event.preventDefault();
      if (shown) this.accept(true);
      else this.insert("    ");
    } else if (event.key === "ArrowRight" && (event.ctrlKey || event.altKey) && shown) {
      event.preventDefault();
      this.accept(false);
    } else if (event.key === "Enter" && plain && !event.shiftKey) {
      event.preventDefault();
      const line = this.before.slice(this.before.lastIndexOf("\n") + 1);
      this.insert("\n" + /^[ \t]*/.exec(line)[0] + (/[:{([]\s*$/.test(line) ? "    " : ""));
    }
    if (!["Shift", "Control", "Alt", "Meta"].includes(event.key)) this.leaving = false;
  }

  edited() {
    if (this.ghost && !this.rest()) this.ghost = null;
    this.draw();
    this.changed("edited");
  }

  // Draw the visible lines.
  draw() {
    const { input, view } = this, first = Math.max(0, Math.floor(input.scrollTop / LINE) - 2);
    const last = first + Math.ceil(input.clientHeight / LINE) + 4, text = input.value;
    let start = 0;
    for (let line = 0; line < first; line++) start = text.indexOf("\n", start) + 1 || text.length;
    let end = start;
    for (let line = first; line <= last && end < text.length; line++) end = text.indexOf("\n", end) + 1 || text.length;
    const rest = this.rest(), at = input.selectionStart, parts = [];
    if (rest && at >= start && at <= end) {
      const ghost = document.createElement("span");
      ghost.className = "ghost";
      ghost.textContent = rest;
      const kept = text.slice(at + this.ghost.replaces.length, end);
      parts.push(...highlighted(text.slice(start, at)), ghost, ...highlighted(kept));
    } else {
      parts.push(...highlighted(text.slice(start, end)));
    }
    view.replaceChildren(...parts);
    view.style.transform = `translate(${-input.scrollLeft}px, ${first * LINE - input.scrollTop}px)`;
  }
}

export function highlighted(text) {
  const parts = [];
  for (const line of text.split(/(?<=\n)/)) {
    if (line.length > MOST_HIGHLIGHTED) {
      parts.push(line);
      continue;
    }
    let done = 0;
    for (const found of line.matchAll(PIECES)) {
      const kind = found[1] ? "comment" : found[2] ? "string" : found[3] ? "number" : WORDS.has(found[0]) ? "keyword" : "";
      if (!kind) continue;
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = found[0];
      parts.push(line.slice(done, found.index), span);
      done = found.index + found[0].length;
    }
    parts.push(line.slice(done));
  }
  return parts.filter((part) => part !== "");
}
