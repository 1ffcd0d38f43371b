// The page of one trace: its text token by token, and the details of the one that is chosen.
import { Attention, AttentionPanel, element, escaped, percent, visible } from "./attention.js";

const $ = (id) => document.getElementById(id);
const SOURCES = ["model", "document", "workspace"];
const KEYS = {
  attention: "The stronger the colour, the more the chosen token looks at it.",
  probability: "The redder, the less likely the model found it.",
  source: "",
};
const trace = JSON.parse($("trace").textContent), { prompt, tokens: suggested, attention: record } = trace.attribution;
const tokens = [
  ...prompt.map(({ region, line, token }) => ({ ...token, region, line })),
  ...suggested.map((token) => ({ ...token, region: "suggestion", line: 0 })),
];
const first = prompt.length, pieces = tokens.map(() => []);
let chosen = suggested.length ? first : Math.max(0, tokens.length - 1), hovered = null, colour = "attention";

const sharesOf = (token) => ({ model: token.from_model, document: token.from_document, workspace: token.from_workspace });
const sourceOf = (token) => SOURCES.reduce((best, one) => sharesOf(token)[one] > sharesOf(token)[best] ? one : best);
const known = (at) => at > 0;
/** 0 for a certain token, 1 for one of 0.1 % or less. */
const surprise = (token) => Math.min(1, -Math.log10(Math.max(token.probability, 1e-3)) / 3);

function fillHeader() {
  const { model, suggestion, shown, reason } = trace, name = trace.file.split(/[\\/]/).pop();
  document.documentElement.lang = "en";
  $("place").textContent = `${name}:${trace.line}:${trace.column}`;
  $("place").title = trace.file;
  const sure = suggested.reduce((sum, token) => sum + Math.log(Math.max(token.probability, 1e-9)), 0) / Math.max(1, suggested.length);
  $("about").textContent = [
    `${model.name} (${model.engine}, ${record?.layers ?? "?"} layers of ${record?.heads ?? "?"} heads)`,
    `${prompt.length} tokens of prompt, ${suggested.length} of ${shown ? "the suggestion" : "an answer that is not shown"}`,
    suggestion && `mean probability ${percent(Math.exp(sure))}`, reason,
  ].filter(Boolean).join(" · ");
}

/** Lines of a region in the order of the document; a token that spans lines has a piece in each. */
function linesOf(numbers, firstLine) {
  const lines = [{ number: firstLine, parts: [] }];
  for (const at of numbers) {
    const { text } = tokens[at], parts = text.split("\n");
    parts.forEach((part, number) => {
      if (number) lines.push({ number: lines.at(-1).number + 1, parts: [] });
      const ends = number < parts.length - 1;
      if (part || ends || text === "") lines.at(-1).parts.push({ at, text: part, ends });
    });
  }
  return lines;
}

function firstLineOf(numbers) {
  if (!numbers.length) return trace.line;
  const { text, line } = tokens[numbers[0]], leading = text.slice(0, text.length - text.trimStart().length);
  return line - (text.trim() ? leading.split("\n").length - 1 : 0);
}

function pieceOf({ at, text, ends }) {
  const token = tokens[at], piece = element("span", { class: "token", "data-at": at }, escaped(text));
  if (ends) piece.append(element("i", {}, "↵"));
  piece.dataset.region = token.region;
  if (token.typed) piece.dataset.typed = "";
  pieces[at].push(piece);
  return piece;
}

function fillTokens() {
  const numbers = (region) => [...tokens.keys()].filter((at) => tokens[at].region === region);
  const before = numbers("before"), after = numbers("after"), other = numbers("other"), special = numbers("special");
  const blocks = [];
  const add = (title, lines, numbered = true) => {
    if (!lines.some((line) => line.parts.length)) return;
    if (title) blocks.push(element("p", { class: "region" }, title));
    for (const { number, parts } of lines) {
      const line = element("div", { class: "line", "data-line": numbered ? number : "" });
      line.append(...parts.map(pieceOf));
      if (numbered && number === trace.line) line.classList.add("cursor");
      blocks.push(line);
    }
  };
  if (special.length) {
    const marks = element("div", { class: "line marks", "data-line": "" });
    for (const at of special) marks.append(pieceOf({ at, text: tokens[at].text, ends: false }));
    blocks.push(element("p", { class: "region" }, "Marks of the prompt"), marks);
  }
  add("Other files", linesOf(other, 1), false);
  add(special.length || after.length || other.length ? "Before the cursor, and the suggestion" : "", linesOf([...before, ...numbers("suggestion")], before.length ? firstLineOf(before) : trace.line));
  add(first && after.length ? `After the cursor${after[0] < (before[0] ?? Infinity) ? ", which the model reads first" : ""}` : "", linesOf(after, firstLineOf(after)));
  $("tokens").append(...blocks);
  pieces.forEach((all, at) => all.forEach((piece, number) => {
    if (number) { piece.setAttribute("aria-hidden", "true"); return; }
    piece.id = `token-${at}`;
    piece.setAttribute("role", "option");
    piece.setAttribute("aria-label", `${visible(tokens[at].text)}${known(at) ? `, ${percent(tokens[at].probability)}, mostly from the ${sourceOf(tokens[at])}` : ""}`);
  }));
}

const attention = record ? new Attention(record, first) : null;
const panel = attention ? new AttentionPanel($("attention"), attention, tokens, {
  onChange: () => paint(),
  onToken: (at) => { flash(at); },
}) : null;

/** Colour all tokens, by the attention of the one that is shown or by their own numbers. */
function paint() {
  const shown = hovered ?? chosen, weights = panel ? panel.show(shown) : new Float32Array(0);
  let greatest = 1e-6;
  for (let at = 1; at < weights.length; at++) greatest = Math.max(greatest, weights[at]);
  tokens.forEach((token, at) => {
    const strength = colour === "attention" ? Math.sqrt(Math.min(1, (weights[at] ?? 0) / greatest))
      : !known(at) ? 0 : colour === "probability" ? surprise(token) : 1;
    for (const piece of pieces[at]) {
      piece.style.setProperty("--strength", `${Math.round(strength * 100)}%`);
      piece.dataset.source = sourceOf(token);
      piece.classList.toggle("shown", at === shown);
      piece.setAttribute("aria-selected", String(at === chosen));
    }
  });
  $("tokens").dataset.colour = colour;
  $("tokens").setAttribute("aria-activedescendant", `token-${chosen}`);
  $("key").textContent = KEYS[colour];
  if (colour === "source") $("key").append(...SOURCES.map((one) => element("span", { "data-source": one }, one)));
  fillDetail(shown);
}

function placeOf(name, origin) {
  const where = element("code", {}, origin.path ? `${origin.path}:${origin.line}` : `line ${origin.line}`);
  return element("p", { class: "origin" }, `${name}: `, where, ` agrees on ${origin.tokens} tokens`, element("code", { class: "excerpt" }, visible(origin.excerpt)));
}

function runnersUp(token) {
  const list = element("ol", { class: "runners" });
  const all = token.alternatives.some((one) => one.text === token.text) || !known(tokens.indexOf(token)) ? token.alternatives
    : [...token.alternatives, { text: token.text, probability: token.probability }];
  for (const one of all) {
    const item = element("li", one.text === token.text ? { class: "own" } : {}, element("span", { class: "weight", "aria-hidden": "true" }),
      element("code", {}, visible(one.text)), element("b", {}, percent(one.probability)));
    item.firstChild.style.setProperty("--weight", `${100 * one.probability}%`);
    list.append(item);
  }
  return list;
}

function fillDetail(at) {
  const token = tokens[at];
  if (!token) return;
  const role = { before: `of the prompt, line ${token.line}`, after: `of the prompt, after the cursor, line ${token.line}`, other: "of another file in the prompt", special: "a mark of the prompt", suggestion: "of the suggestion" }[token.region];
  const parts = [element("p", { class: "chosen" }, element("code", {}, visible(token.text)), element("span", { class: "quiet" }, `token ${at + 1} of ${tokens.length}, ${role}`))];
  if (!known(at)) {
    parts.push(element("p", {}, "The first token has no probability: nothing is before it."));
  } else {
    const bar = element("div", { class: "share", "aria-hidden": "true" }), shares = sharesOf(token);
    for (const one of SOURCES) {
      const part = element("span", { "data-source": one });
      part.style.width = `${100 * shares[one]}%`;
      bar.append(part);
    }
    parts.push(
      element("p", {}, element("b", {}, percent(token.probability)), ": ",
        ...SOURCES.filter((one) => shares[one] > 0).flatMap((one, number) => [number ? ", " : "", element("span", { "data-source": one }, `${percent(shares[one])} from the ${one}`)]),
        `. The model alone gives ${percent(token.model_probability)}.`),
      bar,
    );
    if (token.typed) parts.push(element("p", { class: "quiet" }, `${token.typed === 1 ? "Its first character was" : `Its first ${token.typed} characters were`} typed; probabilities are among the tokens that begin so.`));
    if (token.document) parts.push(placeOf("Document", token.document));
    if (token.workspace) parts.push(placeOf("Workspace", token.workspace));
    if (token.alternatives.length) parts.push(element("h2", {}, "Most likely here"), runnersUp(token));
  }
  $("detail").replaceChildren(...parts);
}

function choose(at) {
  chosen = Math.min(Math.max(at, 0), tokens.length - 1);
  hovered = null;
  paint();
  pieces[chosen][0]?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** Bring a token into view that was picked from the list, without leaving the chosen one. */
function flash(at) {
  pieces[at][0]?.scrollIntoView({ block: "center" });
  for (const piece of pieces[at]) piece.animate([{ outlineColor: "transparent" }, { outline: "3px solid currentColor" }, { outlineColor: "transparent" }], 900);
}

/** The token whose first piece is nearest on the next line in a direction. */
function vertical(direction) {
  const here = pieces[chosen][0].getBoundingClientRect();
  let best = chosen, least = Infinity;
  pieces.forEach(([piece], at) => {
    if (!piece) return;
    const there = piece.getBoundingClientRect(), down = (there.top - here.top) * direction;
    const distance = down * 1000 + Math.abs(there.left - here.left);
    if (down > 4 && distance < least) { best = at; least = distance; }
  });
  return best;
}

/** The next token in the order in which they are shown. */
function along(step) {
  const order = [...$("tokens").querySelectorAll("[role=option]")].map((piece) => Number(piece.dataset.at));
  return order[Math.min(Math.max(order.indexOf(chosen) + step, 0), order.length - 1)];
}

$("tokens").addEventListener("keydown", (event) => {
  const at = { ArrowLeft: () => along(-1), ArrowRight: () => along(1), ArrowUp: () => vertical(-1), ArrowDown: () => vertical(1),
    Home: () => suggested.length ? first : 0, End: () => tokens.length - 1 }[event.key];
  if (!at || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  choose(at());
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { panel?.choose(null, null); choose(suggested.length ? first : 0); }
});
$("tokens").addEventListener("click", (event) => {
  const piece = event.target.closest(".token");
  if (piece) choose(Number(piece.dataset.at));
});
$("tokens").addEventListener("pointerover", (event) => {
  const piece = event.target.closest(".token"), at = piece && event.pointerType === "mouse" ? Number(piece.dataset.at) : null;
  if (at === hovered) return;
  hovered = at;
  paint();
});
$("tokens").addEventListener("pointerleave", () => {
  if (hovered === null) return;
  hovered = null;
  paint();
});
$("colours").addEventListener("change", (event) => {
  colour = event.target.value;
  paint();
});
$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
});

fillHeader();
fillTokens();
choose(chosen);
