// Sessions: programs in several turns. The text of a session goes to the server with each request, and comes back new.

import { $, button, element, printable } from "./elements.js";
import { ask, follow } from "./requests.js";
import { forget, isSession, keep, load, newId, stored, titleOf } from "./session_store.js";
import { save, spoken, stepItem, textForm, withCode } from "./session_view.js";

const EMPTY = { text: "", head: "", turns: [], reports: [], versions: [] };
const LARGEST_FILE = 200_000; // characters, the server's limit
const MOST_SENT = 6_000_000; // characters of pictures in a request for a notebook
const STARTS = [
  ["Numbers", ["Set prices to the list [3, 5, 8, 13].", "Compute the mean of prices. `prices = [1, 3]` → `2`"]],
  ["A table", ["Make a list of dictionaries with the name and the area of three countries."]],
  ["A picture", ["Import matplotlib.pyplot as plt.", "Plot the squares of the numbers from 0 to 20."]],
];

let id = "", now = EMPTY, undo = [], redo = [], working = null, shown = false, programs = { programs: false, reason: "" };
let checked = false;
const unfolded = new Set();

// Take the result of a request: the turns from `first` on are new.
function take(done, number, versions) {
  undo.push(now);
  redo = [];
  const reports = [...now.reports.slice(0, done.first), ...done.reports];
  const kept = now.versions.slice(0, done.first);
  if (versions) kept[number] = versions;
  now = { text: done.text, head: done.head, turns: done.turns, reports, versions: kept };
  changed();
}

function changed() {
  const empty = !now.text.trim() && !undo.length;
  if (!empty && !keep(id, now, undo, redo)) notice("The browser has no room for this session. Download it.");
  show();
}

function show() {
  $("welcome").hidden = now.turns.length > 0;
  $("head").hidden = !now.head.trim();
  $("head-code").textContent = printable(now.head.trim());
  $("steps").replaceChildren(...now.turns.map((turn, number) =>
    stepItem(number, turn, now.reports[number], now.versions[number], unfolded.has(number), actions(number))));
  $("undo").disabled = !undo.length;
  $("redo").disabled = !redo.length;
  for (const one of ["run", "python", "notebook"]) $(one).disabled = !now.turns.length;
  const others = stored().filter((one) => one.id !== id);
  $("session").replaceChildren(...[{ id, title: titleOf(now) }, ...others].map((one) => element("option", { value: one.id }, one.title)));
  $("say-label").textContent = now.turns.length ? "What should it do next?" : "What should the program do first?";
  allow();
}

function allow() {
  const off = checked && !programs.programs;
  $("off").hidden = !off;
  $("off").textContent = programs.reason;
  $("say-send").disabled = off || working !== null;
  if (off) $("run").disabled = true;
  for (const one of $("steps").querySelectorAll("[data-action], .versions button")) one.disabled = off;
}

function notice(text, kind = "problem") {
  $("notice").textContent = text;
  $("notice").dataset.kind = kind;
  $("notice").hidden = !text;
}

// Do something that takes a while and can be cancelled. Return its result, or null.
async function work(label, path, body) {
  if (working) return null;
  notice("");
  working = new AbortController();
  const { signal } = working;
  $("working").hidden = false;
  $("working-text").textContent = label;
  $("working-bar").removeAttribute("value");
  for (const one of ["steps", "tools", "welcome"]) $(one).inert = true;
  allow();
  try {
    return await follow(`/page/session/${path}`, { text: now.text, ...body }, signal, (event) => {
      const what = event.event === "turn" ? "steps" : "versions";
      $("working-text").textContent = `${label} ${event.done} of ${event.of} ${what}.`;
      $("working-bar").max = event.of;
      $("working-bar").value = event.done;
    });
  } catch (error) {
    if (signal.aborted) notice("Stopped. Nothing was changed.", "quiet");
    else if (error instanceof TypeError) notice("The server does not answer. Nothing was changed; try again when it is back.");
    else notice(error.message);
    return null;
  } finally {
    working = null;
    $("working").hidden = true;
    for (const one of ["steps", "tools", "welcome"]) $(one).inert = false;
    allow();
  }
}

function tell(number) {
  const report = now.reports[number];
  if (report) $("live").textContent = printable(spoken(number, report));
}

// Ask what a request leaves open, one line after the other. Return the request with the answers, or null.
async function complete(request, body) {
  let { questions } = await ask("/page/session/questions", { text: now.text, request, ...body });
  for (const question of questions) {
    const answer = await answerTo(question.text);
    if (answer === null) return null;
    if (answer.trim()) request += `\n${answer.trim()}`;
  }
  return request;
}

function answerTo(question) {
  return new Promise((resolve) => {
    const field = element("input", { id: "answer", autocomplete: "off" });
    const done = (answer) => {
      made.remove();
      $("say").hidden = false;
      resolve(answer);
    };
    const made = element("form", { class: "question" }, element("label", { for: "answer" }, question), field,
      element("div", { class: "buttons" }, element("button", { type: "submit", class: "main" }, "Answer"),
        button("Go on without", {}, () => done("")), button("Cancel", {}, () => done(null))));
    made.addEventListener("submit", (event) => {
      event.preventDefault();
      done(field.value);
    });
    made.addEventListener("keydown", (event) => event.key === "Escape" && done(null));
    $("say").before(made);
    $("say").hidden = true;
    field.focus();
  });
}

// Write a step. Return false if nothing was written.
async function propose(request, body, label = "Writing it, and trying it out:") {
  const number = body.turn ?? now.turns.length;
  let whole = request.trim();
  if (!whole) return false;
  try {
    whole = body.seed ? whole : await complete(whole, body.turn === undefined ? {} : { turn: body.turn });
  } catch (error) {
    notice(error instanceof TypeError ? "The server does not answer. Nothing was changed; try again when it is back." : error.message);
    return false;
  }
  if (whole === null) return false;
  const done = await work(label, "propose", { request: whole, ...body });
  if (!done) return false;
  take(done, number, { list: done.candidates, chosen: 0, seed: body.seed ?? 0 });
  tell(number);
  $(`step-${number + 1}`)?.scrollIntoView({ block: "nearest" });
  return true;
}

async function perform(label, path, body, number, versions) {
  const done = await work(label, path, body);
  if (!done) return;
  take(done, number, versions);
  tell(Math.min(number, now.turns.length - 1));
  ($(`step-${number + 1}`) ?? $("steps").lastElementChild)?.querySelector("h3").focus();
}

// What a person can do with a step.
function actions(number) {
  const turn = now.turns[number], versions = now.versions[number];
  const item = () => $(`step-${number + 1}`);
  const again = (action) => item()?.querySelector(`[data-action=${action}]`)?.focus();
  const form = (place, label, value, submit, kind, action, use) => {
    document.querySelector(".text-form")?.remove();
    const made = textForm(label, value, submit, kind, (text) => {
      made.remove();
      if (text === null || text === value) again(action);
      else use(text);
    });
    place(made);
    made.querySelector("textarea").focus();
  };
  return {
    change: () => form((made) => item().querySelector(".step-head").after(made), `What should step ${number + 1} do?`, turn.request,
      "Write it anew", "say", "change", (text) => propose(text, { turn: number }, "Writing it and the later steps anew:")),
    insert: () => form((made) => item().prepend(made), `What should be done before step ${number + 1}?`, "", "Insert it", "say",
      "insert", (text) => propose(text, { turn: number, insert: true }, "Writing it and the later steps anew:")),
    edit: () => form((made) => item().querySelector(".code-part").append(made), `Code of step ${number + 1}`, turn.code, "Save and run",
      "code", "edit", (code) => perform("Running it.", "edit", { turn: number, code }, number)),
    retry: () => propose(turn.request, { turn: number, seed: (versions?.seed ?? 0) + 1 }, "Writing other versions:"),
    remove: () => perform("Running what is left.", "remove", { turn: number }, number),
    choose: (at) => perform("Running this version.", "edit", { turn: number, code: versions.list[at].code, edited: false }, number,
      { ...versions, chosen: at }),
    unfolded: (open) => open ? unfolded.add(number) : unfolded.delete(number),
  };
}

function step(from, to) {
  if (!from.length || working) return;
  to.push(now);
  now = from.pop();
  notice("");
  changed();
  $("live").textContent = `${now.turns.length} steps.`;
}

// Go to a session that the browser has, or to a new one.
function go(to) {
  const found = load(to);
  id = to;
  now = found ? { ...EMPTY, ...found.now } : EMPTY;
  undo = found?.undo ?? [];
  redo = found?.redo ?? [];
  unfolded.clear();
  notice("");
  if (location.pathname === "/sessions") history.replaceState(null, "", `/sessions#${id}`);
  show();
}

async function openFile(file) {
  const text = await file.text();
  if (text.length > LARGEST_FILE) {
    notice(`${file.name} is too long for a session.`);
    return;
  }
  try {
    const read = await ask("/page/session/read", { text: text.toWellFormed() });
    go(newId());
    now = { ...EMPTY, ...read };
    changed();
    notice(`${file.name} was opened. Nothing of it was run; “Run again” does.`, "quiet");
  } catch (error) {
    notice(error.message);
  }
}

function fileName(suffix) {
  const words = titleOf(now).toLowerCase().match(/[a-z0-9]+/g) ?? ["session"];
  return `${words.slice(0, 5).join("-")}${suffix}`;
}

async function notebook() {
  const pictures = now.reports.flatMap((one) => one?.files ?? []).reduce((sum, file) => sum + file.base64.length, 0);
  const results = now.reports.flatMap((one, number) => one ? [{
    number, output: one.output, value: one.value, error: one.error, files: pictures <= MOST_SENT ? one.files : [],
  }] : []);
  try {
    save(fileName(".ipynb"), JSON.stringify(await ask("/page/session/notebook", { text: now.text, results }), null, 1));
  } catch (error) {
    notice(error instanceof TypeError ? "The server does not answer. Try again when it is back." : error.message);
  }
}

async function check() {
  try {
    programs = await ask("/page/session/state");
    checked = true;
  } catch {
    // Asked again when the server answers.
  }
  allow();
}

export function start() {
  addEventListener("view", ({ detail }) => {
    shown = detail === "/sessions";
    if (!shown) return;
    const wanted = location.hash.slice(1) || id || stored()[0]?.id || newId();
    if (wanted !== id) go(wanted);
    else history.replaceState(null, "", `/sessions#${id}`);
    if (!checked) check();
  });
  addEventListener("server", ({ detail: { model, back } }) => {
    $("small").hidden = !model?.small;
    $("small-name").textContent = model?.name ?? "";
    if (shown && (back || !checked)) check();
  });
  addEventListener("hashchange", () => shown && location.hash.slice(1) !== id && go(location.hash.slice(1)));
  addEventListener("storage", (event) => shown && !working && isSession(event.key, id) && go(id));
  $("say").addEventListener("submit", async (event) => {
    event.preventDefault();
    const request = $("say-text").value;
    if ($("say-send").disabled) return;
    if (await propose(request, {}) && $("say-text").value === request) $("say-text").value = "";
    $("say-text").focus();
  });
  $("say-text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("say").requestSubmit();
  });
  $("cancel").addEventListener("click", () => working?.abort());
  $("working").addEventListener("keydown", (event) => event.key === "Escape" && working?.abort());
  $("undo").addEventListener("click", () => step(undo, redo));
  $("redo").addEventListener("click", () => step(redo, undo));
  $("run").addEventListener("click", () => perform("Running it.", "run", {}, now.turns.length - 1));
  $("python").addEventListener("click", () => save(fileName(".py"), now.text));
  $("notebook").addEventListener("click", notebook);
  $("session").addEventListener("change", () => go($("session").value));
  $("new").addEventListener("click", () => {
    go(newId());
    $("say-text").focus();
  });
  $("delete").addEventListener("click", () => {
    if (!confirm("Delete this session? It can't be brought back.")) return;
    forget(id);
    go(stored()[0]?.id ?? newId());
  });
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files.length) openFile($("file").files[0]);
    $("file").value = "";
  });
  $("starts").addEventListener("click", ({ target }) => {
    const request = target.closest("[data-request]")?.dataset.request;
    if (!request) return;
    $("say-text").value = request;
    $("say-text").focus();
  });
  for (const [title, requests] of STARTS) {
    $("starts").append(element("li", {}, element("h3", {}, title), element("ol", {}, ...requests.map((request) =>
      element("li", {}, element("button", { type: "button", "data-request": request }, ...withCode(request)))))));
  }
}
