// How a step of a session is shown: what was asked, what it did, its versions, and its code, folded.

import { highlighted } from "./editor.js";
import { button, element, printable } from "./elements.js";

export const MARKS = { right: "✓", ran: "•", contradicts: "✗", failed: "✗", timeout: "✗" };
const WORDS = {
  right: "the examples hold", ran: "it ran", contradicts: "an example does not hold", failed: "it failed", timeout: "it took too long",
};
const NUMBER = /^(-?[\d.,]+(e[+-]?\d+)?|nan|-?inf|None)?$/;
const LARGEST = 4096; // pixels of a picture's side

// Return a step as an item of the list. `act` has a function for each thing that a person can do.
export function stepItem(number, turn, report, versions, open, act) {
  const item = element("li", { class: "step", id: `step-${number + 1}`, "data-kind": report?.kind ?? "" });
  const name = `step ${number + 1}`;
  item.append(
    element("div", { class: "step-head" },
      element("span", { class: "mark", "aria-hidden": "true" }, report ? MARKS[report.kind] : "·"),
      element("h3", { tabindex: "-1" }, element("span", { class: "number" }, `${number + 1}`),
        element("span", { class: "request" }, ...withCode(printable(turn.request))))),
    result(number, turn, report),
  );
  const group = versions && versionGroup(name, versions, act);
  if (group?.childNodes.length) item.append(group);
  const code = codePart(name, turn, open, act);
  const fold = button(turn.edited ? "Code (yours)" : "Code", {
    "data-fold": "", "aria-expanded": String(open), "aria-controls": code.id, "aria-label": `Code of ${name}`,
  }, () => {
    code.hidden = !code.hidden;
    fold.setAttribute("aria-expanded", String(!code.hidden));
    act.unfolded(!code.hidden);
  });
  item.append(
    element("div", { class: "actions", role: "group", "aria-label": `What you can do with ${name}` }, fold,
      button("Reword", { "data-action": "change", "aria-label": `Reword ${name}` }, act.change),
      button("Other versions", { "data-action": "retry", "aria-label": `Other versions of ${name}` }, act.retry),
      button("Insert above", { "data-action": "insert", "aria-label": `Insert a step above ${name}` }, act.insert),
      button("Remove", { "data-action": "remove", "aria-label": `Remove ${name}` }, act.remove)),
    code,
  );
  return item;
}

// Return a text with what stands between backquotes as code.
export function withCode(text) {
  return text.split(/`([^`\n]+)`/).map((part, at) => at % 2 ? element("code", {}, part) : part);
}

// Return what a step did in one sentence, for those who hear it.
export function spoken(number, report) {
  const shown = report.value || report.output.trimEnd() || "";
  const told = shown ? ` It gives ${shown.slice(0, 200)}` : "";
  return `Step ${number + 1}: ${report.explanation || report.reason || WORDS[report.kind]}.${told}`;
}

function result(number, turn, report) {
  const made = element("div", { class: "result" });
  if (!report) {
    if (turn.output) made.append(textBlock(turn.output, "What it did when it was last run"));
    else made.append(element("p", { class: "quiet" }, turn.code ? "Shows nothing." : "There is no code yet."));
    return made;
  }
  if (report.output) made.append(textBlock(report.output.trimEnd(), "Output"));
  const tables = report.tables ?? [];
  made.append(...tables.map((one) => table(number, one)));
  if (report.value && !tables.some((one) => !one.name)) made.append(textBlock(report.value, "Value", "value"));
  for (const file of report.files) made.append(fileBlock(number, file));
  const problem = report.reason || report.error;
  if (problem && report.explanation) {
    const raw = problem.replace(`${report.explanation}: `, "").replace(/^turn \d+: /, "");
    made.append(element("p", { class: "problem" }, sentence(report.explanation)), element("p", { class: "quiet" }, sentence(raw)));
  } else if (problem) made.append(element("p", { class: "problem" }, sentence(problem)));
  else if (report.kind === "right") made.append(element("p", { class: "fine" }, "The examples hold."));
  if (!made.childNodes.length) made.append(element("p", { class: "quiet" }, turn.code ? "Done. It shows nothing." : "There is no code yet."));
  return made;
}

function sentence(text) {
  const shown = printable(text).replace(/^turn (\d+): /, "Step $1 fails, so this one did not run: ");
  return /^(it|a|an|the|nothing|there|something|step)\b/.test(shown) ? `${shown[0].toUpperCase()}${shown.slice(1)}.` : shown;
}

function textBlock(text, label, kind = "output") {
  return element("pre", { class: kind, tabindex: "0", role: "region", "aria-label": label }, printable(text));
}

function table(number, { name, heads, rows, dropped }) {
  const made = element("table"), width = Math.max(heads.length, ...rows.map((row) => row.length));
  const kinds = Array.from({ length: width }, (_, at) =>
    rows.every((row) => NUMBER.test(row[at] ?? "")) ? { class: "numeric" } : {});
  if (heads.length) {
    const cells = heads.map((head, at) => element("th", { scope: "col", ...kinds[at] }, printable(head)));
    made.append(element("thead", {}, element("tr", {}, ...cells)));
  }
  const lines = rows.map((row) => element("tr", {}, ...row.map((cell, at) => element("td", kinds[at], printable(cell)))));
  made.append(element("tbody", {}, ...lines));
  const block = element("div", { class: "table", tabindex: "0", role: "region", "aria-label": name || `Table of step ${number + 1}` }, made);
  if (dropped > 0) block.append(element("p", { class: "quiet" }, `${dropped} more rows`));
  return block;
}

// A picture is drawn on a canvas: the policy of the page admits no image that is not the server's.
function fileBlock(number, file) {
  const block = element("figure");
  const bytes = Uint8Array.from(atob(file.base64), (sign) => sign.charCodeAt(0));
  const caption = element("figcaption", {}, button(`Save ${printable(file.name)}`, {}, () => save(file.name, bytes)));
  block.append(caption);
  if (!file.name.endsWith(".png")) return block;
  const size = new DataView(bytes.buffer), fits = bytes.length > 24 &&
    size.getUint32(16) <= LARGEST && size.getUint32(20) <= LARGEST;
  if (!fits) {
    caption.prepend("This picture is too large to be shown. ");
    return block;
  }
  createImageBitmap(new Blob([bytes], { type: "image/png" })).then((bitmap) => {
    const canvas = element("canvas", { width: bitmap.width, height: bitmap.height, role: "img", "aria-label": `Picture of step ${number + 1}` });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    block.prepend(canvas);
  }, () => caption.prepend("This picture can't be read. "));
  return block;
}

function versionGroup(name, { list, chosen }, act) {
  const group = element("div", { class: "versions", role: "group", "aria-label": `Versions of ${name}` });
  const works = (one) => one.code.trim() && (one.kind === "right" || one.kind === "ran");
  if (!list.some(works)) {
    group.append(element("p", { class: "problem" }, "No version works. Say it in other words, with an example, or write the code yourself."));
  }
  if (list.length < 2) return group;
  group.append(element("span", { class: "quiet" }, "Versions"));
  list.forEach((version, at) => {
    const empty = !version.code.trim(), told = empty ? "nothing was written" : version.reason || (version.text ? `${WORDS[version.kind]}: ${version.text.slice(0, 80)}` : WORDS[version.kind]);
    group.append(button(`${at + 1} ${empty ? "–" : MARKS[version.kind]}`, {
      "data-kind": empty ? "" : version.kind, "aria-pressed": String(at === chosen), title: printable(told), "aria-label": `Version ${at + 1}, ${printable(told)}`,
    }, () => act.choose(at)));
  });
  return group;
}

function codePart(name, turn, open, act) {
  const code = element("pre", { class: "code", tabindex: "0", role: "region", "aria-label": `Code of ${name}` }, ...highlighted(printable(turn.code) || "# Nothing yet."));
  const made = element("div", { class: "code-part", id: `code-of-${name.replace(" ", "-")}` }, code,
    button("Edit the code", { "data-action": "edit", "aria-label": `Edit the code of ${name}` }, act.edit));
  made.hidden = !open;
  return made;
}

// Return a form that asks for a text, in place of something else or beside it.
export function textForm(label, value, submit, kind, done) {
  const field = element("textarea", { rows: String(Math.min(20, value.split("\n").length + 1)), spellcheck: "false", class: kind });
  field.value = value;
  if (kind === "code") field.setSelectionRange(0, 0);
  const made = element("form", { class: "text-form" }, element("label", {}, label, field),
    element("div", { class: "buttons" }, element("button", { type: "submit", class: "main" }, submit),
      button("Cancel", {}, () => done(null)),
      element("span", { class: "quiet" }, kind === "code" ? "Ctrl+Enter saves, Escape cancels" : "Enter sends, Escape cancels")));
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    done(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      done(null);
    } else if (event.key === "Enter" && (kind === "code" ? event.ctrlKey || event.metaKey : !event.shiftKey)) {
      event.preventDefault();
      done(field.value);
    }
  });
  return made;
}

export function save(name, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type: "application/octet-stream" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
