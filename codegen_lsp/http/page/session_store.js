// Sessions in the browser's storage: the server keeps none. Each has an identifier, which the page's address shows.

const PREFIX = "codegen-lsp session ";
const MOST_PICTURES = 1_500_000; // characters of files that are kept beside a session's text
const MOST_STEPS = 50; // of undo

export function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(2)), (one) => one.toString(36)).join("");
}

// Return what is stored of all sessions, the one that was changed last first.
export function stored() {
  const found = [];
  for (let at = 0; at < localStorage.length; at++) {
    const name = localStorage.key(at);
    if (!name.startsWith(PREFIX)) continue;
    const session = load(name.slice(PREFIX.length));
    if (session) found.push({ id: name.slice(PREFIX.length), title: titleOf(session.now), changed: session.changed });
  }
  return found.sort((one, other) => other.changed - one.changed);
}

export function titleOf(now) {
  const first = now.turns[0]?.request.split("\n")[0] ?? "";
  return first.length > 48 ? `${first.slice(0, 47)}…` : first || "Empty session";
}

export function load(id) {
  try {
    const value = JSON.parse(localStorage.getItem(PREFIX + id));
    return Array.isArray(value?.now?.turns) && typeof value.now.text === "string" ? value : null;
  } catch {
    return null;
  }
}

const bare = ({ text, head, turns }) => ({ text, head, turns, reports: [], versions: [] });

// Keep a session, as much of it as there is room for. Return false when there is none.
export function keep(id, now, undo, redo) {
  const size = now.reports.flatMap((report) => report?.files ?? []).reduce((sum, file) => sum + file.base64.length, 0);
  const kept = size <= MOST_PICTURES ? now : { ...now, reports: now.reports.map((one) => one && { ...one, files: [] }) };
  const steps = { undo: undo.slice(-MOST_STEPS).map(bare), redo: redo.slice(-MOST_STEPS).map(bare) };
  for (const value of [{ now: kept, ...steps }, { now: kept, undo: [], redo: [] }, { now: bare(now), undo: [], redo: [] }]) {
    try {
      localStorage.setItem(PREFIX + id, JSON.stringify({ ...value, changed: Date.now() }));
      return true;
    } catch {
      // No room: keep less.
    }
  }
  return false;
}

export function forget(id) {
  localStorage.removeItem(PREFIX + id);
}

export const isSession = (name, id) => name === PREFIX + id;
