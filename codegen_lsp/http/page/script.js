// The page around the editor: tokens, health and speed; and the parts that all views have.

import { AttentionView } from "./attention_view.js";
import { Editor } from "./editor.js";
import { $, element } from "./elements.js";
import { EXAMPLES } from "./examples.js";
import { ask, useKey } from "./requests.js";
import { start as startSessions } from "./sessions.js";
import { start as startViews } from "./views.js";

const BEFORE = 100000, AFTER = 50000; // characters of the document that are sent
const PAUSE = 40, EXPLAIN_PAUSE = 250, POLL = 3000, AGAIN = 400; // milliseconds
const SOURCES = ["model", "document", "workspace"];
const session = crypto.getRandomValues(new Uint32Array(2)).join("-");

let asking = null, explaining = null, timer = 0, explainTimer = 0, away = false;
const latencies = [], speed = { cached: 0, prompt: 0, tokens: 0, seconds: 0 };

const editor = new Editor($("editor"), $("view"), (event) => {
  if (event === "dismissed") { // the tokens stay, so that the keyboard reaches them
    clearTimeout(timer);
    asking?.abort();
    return;
  }
  if (editor.rest()) return; // typed through
  clearTokens();
  stop();
  timer = setTimeout(complete, PAUSE);
});

function stop() {
  clearTimeout(timer);
  clearTimeout(explainTimer);
  asking?.abort();
  explaining?.abort();
}

function place() {
  const before = editor.before;
  return {
    session, before: before.slice(-BEFORE).toWellFormed(), after: editor.after.slice(0, AFTER).toWellFormed(),
    language: $("language").value, workspace: Number($("workspace").value || -1),
    linesAbove: before.length > BEFORE ? before.slice(0, -BEFORE).split("\n").length - 1 : 0,
  };
}

async function complete() {
  if (away || $("editor-page").hidden || !$("editor").value.trim() || $("editor").selectionStart !== $("editor").selectionEnd) return;
  asking = new AbortController();
  const { signal } = asking, sent = place(), { before, after } = editor, started = performance.now();
  try {
    const answer = await ask("/page/complete", sent, signal);
    if (signal.aborted || before !== editor.before || after !== editor.after) return;
    measure(performance.now() - started, answer.stats);
    $("reason").textContent = answer.refusal ? `No suggestion: ${answer.refusal.reason}` : "";
    if (!answer.text) return;
    editor.show({ before, after, text: answer.text, replaces: answer.replaces });
    $("announce").textContent = `Suggestion: ${answer.text}`;
    explainTimer = setTimeout(() => explain(sent, answer.text), EXPLAIN_PAUSE);
  } catch (error) {
    failed(error, signal);
  }
}

async function explain(sent, text) {
  explaining = new AbortController();
  const { signal } = explaining;
  try {
    const { tokens } = await ask("/page/explain", { ...sent, text }, signal);
    if (!signal.aborted) showTokens(tokens, { ...sent, text });
  } catch (error) {
    if (error.status === 503 && !signal.aborted) explainTimer = setTimeout(() => explain(sent, text), AGAIN);
    else failed(error, signal);
  }
}

function failed(error, signal) {
  if (signal.aborted) return;
  if (error instanceof TypeError) setAway();
  else $("reason").textContent = error.message;
}

function measure(milliseconds, stats) {
  if (!stats) return;
  latencies.push(milliseconds);
  speed.cached += stats.cached_tokens;
  speed.prompt += stats.prompt_tokens;
  speed.tokens += stats.generated_tokens;
  speed.seconds += stats.total_seconds;
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (share) => `${Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))])} ms`;
  $("median").textContent = at(0.5);
  $("p95").textContent = at(0.95);
  $("cached").textContent = percent(speed.cached / Math.max(1, speed.prompt));
  $("rate").textContent = Math.round(speed.tokens / Math.max(1e-9, speed.seconds));
  $("count").textContent = latencies.length;
}

const percent = (share) => share > 0 && share < 0.005 ? "<1 %" : `${Math.round(100 * share)} %`;
const visible = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "→").replace(/^ +| +$/g, (blanks) => "·".repeat(blanks.length));

const looking = new AttentionView($("looked-at"), ask, (line) => editor.go(line));

function clearTokens() {
  looking.clear();
  $("tokens").replaceChildren();
  $("detail").replaceChildren();
  for (const one of $("legend").querySelectorAll("b")) one.textContent = "";
  $("empty").hidden = false;
}

function sharesOf(token) {
  return { model: token.from_model, document: token.from_document, workspace: token.from_workspace };
}

function showTokens(tokens, question) {
  clearTokens();
  $("empty").hidden = tokens.length > 0;
  const sums = { model: 0, document: 0, workspace: 0 };
  for (const [number, token] of tokens.entries()) {
    const shares = sharesOf(token), source = SOURCES.reduce((best, one) => shares[one] > shares[best] ? one : best);
    for (const one of SOURCES) sums[one] += shares[one];
    const button = element("button", {
      type: "button", "data-source": source, "aria-pressed": "false",
      "aria-label": `${JSON.stringify(token.text)}, ${percent(token.probability)}, mostly from the ${source}`,
    }, element("code", {}, visible(token.text)), element("small", {}, percent(token.probability)));
    button.addEventListener("click", () => {
      for (const other of $("tokens").querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
      showDetail(token, question.linesAbove);
      looking.show(question, number);
    });
    button.addEventListener("mousedown", (event) => event.preventDefault()); // the editor keeps the focus
    $("tokens").append(element("li", {}, button));
  }
  const total = sums.model + sums.document + sums.workspace;
  for (const one of SOURCES) {
    $("legend").querySelector(`[data-source=${one}] b`).textContent = total ? percent(sums[one] / total) : "";
  }
}

function showDetail(token, linesAbove) {
  const shares = sharesOf(token), bar = element("div", { class: "share", "aria-hidden": "true" });
  for (const one of SOURCES) {
    const part = element("span", { "data-source": one });
    part.style.width = `${100 * shares[one]}%`;
    bar.append(part);
  }
  const parts = [
    element("p", {}, element("code", {}, visible(token.text)), ` has ${percent(token.probability)}: ` +
      SOURCES.filter((one) => shares[one] > 0).map((one) => `${percent(shares[one])} from the ${one}`).join(", ") +
      `. The model alone gives ${percent(token.model_probability)}.`),
    bar,
  ];
  if (token.document) parts.push(placeOf(token.document, linesAbove));
  if (token.workspace) parts.push(placeOf(token.workspace, 0));
  if (token.alternatives.length) {
    parts.push(element("p", {}, "Most likely: ", ...token.alternatives.flatMap((one, number) => [
      number ? ", " : "", element("code", {}, visible(one.text)), ` ${percent(one.probability)}`,
    ])));
  }
  $("detail").replaceChildren(...parts);
}

function placeOf(origin, linesAbove) {
  const line = origin.line + linesAbove, agree = ` agrees on ${origin.tokens} tokens`;
  let where = element("code", { class: "place" }, `${origin.path}:${line}`);
  if (!origin.path) {
    where = element("button", { type: "button", class: "place" }, `line ${line}`);
    where.addEventListener("click", () => editor.go(line));
  }
  const name = origin.path ? "Workspace: " : "Document: ";
  return element("p", {}, name, where, agree, element("code", { class: "excerpt" }, origin.excerpt));
}

function setAway() {
  away = true;
  $("state").dataset.phase = "away";
  $("state").textContent = "The server does not answer. Your text stays; the page connects again by itself.";
}

async function poll() {
  clearTimeout(poll.timer);
  try {
    showState(await ask(`/page/state?language=${encodeURIComponent($("language").value || "python")}`));
  } catch (error) {
    if (error instanceof TypeError) setAway();
    else if (!$("ask").open) $("state").textContent = error.message;
  }
  poll.timer = setTimeout(poll, away ? 500 : POLL);
}

function showState(state) {
  const back = away || $("state").dataset.phase !== "ready" && $("state").dataset.phase !== "busy";
  away = false;
  $("state").dataset.phase = state.phase;
  const ready = state.phase === "ready" || state.phase === "busy";
  $("state").textContent = ready ? "ready" : [state.message || state.phase, state.advice].join(" ");
  if (state.model) {
    $("model").textContent = state.model.name;
    $("engine").textContent = `${state.model.engine}, ${state.model.device}, ${state.model.threads} threads`;
  }
  if (!$("language").options.length) {
    for (const one of state.languages) $("language").append(element("option", { value: one }, one));
    $("language").value = "python";
  }
  const chosen = $("workspace").value;
  $("workspace-label").hidden = !state.workspaces.length;
  $("workspace").replaceChildren(...state.workspaces.map((one, number) => element("option", { value: number },
    one.tokens && !one.pending ? one.name : `${one.name} (indexing)`)), ...state.workspaces.length ? [element("option", { value: -1 }, "none")] : []);
  $("workspace").value = chosen || (state.workspaces.length ? "0" : "");
  dispatchEvent(new CustomEvent("server", { detail: { model: state.model, back } }));
  if (back && ready && !editor.rest() && document.activeElement === $("editor")) complete();
}

EXAMPLES.forEach(([name], number) => $("example").append(element("option", { value: number }, name)));
$("example").prepend(element("option", { value: "" }, "–"));
$("example").value = "";
$("example").addEventListener("change", () => {
  if ($("example").value === "") return;
  const [, language, text] = EXAMPLES[$("example").value];
  $("language").value = language;
  $("editor").focus();
  editor.set(text.replace("│", ""), text.indexOf("│"));
});
$("language").addEventListener("change", () => {
  editor.renew();
  poll();
});
$("workspace").addEventListener("change", () => editor.renew());
$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
});
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  $("key").value = "";
  $("ask").close();
  $(location.pathname === "/sessions" ? "say-text" : "editor").focus();
  poll();
});
document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(poll.timer) : poll());
startSessions();
startViews();
poll();
