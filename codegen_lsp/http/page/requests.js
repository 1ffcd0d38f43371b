// Requests to the server. The key is kept in this module's memory only.

import { $ } from "./elements.js";

let key = "";

export function useKey(text) {
  key = text;
}

async function send(path, body, signal) {
  const used = key, headers = used ? { Authorization: `Bearer ${used}` } : {};
  const options = body === undefined ? { headers, signal } : {
    method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
  };
  const answer = await fetch(path, options);
  if (answer.status === 401) {
    if (used !== key) return send(path, body, signal); // the key was given meanwhile
    if (!$("ask").open) $("ask").showModal();
    throw new Error("A key is needed.");
  }
  if (answer.ok) return answer;
  const value = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(value.error?.message ?? `Status ${answer.status}`), { status: answer.status });
}

export async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

// Send a request that is answered by events, and return the last one; `told` gets the others.
export async function follow(path, body, signal, told) {
  const answer = await send(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", last = null;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const value = JSON.parse(event.replace(/^data: /, ""));
      if (value.error) throw new Error(value.error.message);
      if (value.event === "done") last = value;
      else told(value);
    }
  }
  if (!last) throw new Error("The server ended before it was done. Nothing was changed; try again.");
  return last;
}
