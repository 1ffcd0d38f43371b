// What the model looks at when it chooses a token of the suggestion: asked for once, when somebody wants to see it.

import { Attention, AttentionPanel, element } from "./attention.js";

const AGAIN = 400; // milliseconds

export class AttentionView {
  /** `ask` sends a request; `go` moves the cursor of the editor to a line. */
  constructor(container, ask, go) {
    Object.assign(this, { container, ask, go, wanted: false });
    this.clear();
  }

  /** Forget the suggestion. */
  clear() {
    this.request?.abort();
    Object.assign(this, { request: null, panel: null, question: null, prompt: 0, number: 0 });
    this.container.replaceChildren();
  }

  /** Show a token of the suggestion that the body of a request describes. */
  show(question, number) {
    Object.assign(this, { question, number });
    if (this.panel) this.panel.show(this.prompt + number);
    else if (this.wanted) this.#load();
    else {
      const button = element("button", { type: "button", class: "look" }, "What it looks at");
      button.addEventListener("mousedown", (event) => event.preventDefault()); // the editor keeps the focus
      button.addEventListener("click", () => this.#load());
      this.container.replaceChildren(button);
    }
  }

  async #load() {
    if (this.request) return;
    this.wanted = true;
    this.request = new AbortController();
    const { signal } = this.request;
    this.container.replaceChildren(element("p", { class: "quiet" }, "Reading…"));
    try {
      const answer = await this.#answer(signal);
      if (signal.aborted) return;
      const { prompt, tokens, attention } = answer, { linesAbove } = this.question;
      const all = [
        ...prompt.map(({ text, line }) => ({ text, line: line ? line + linesAbove : 0 })),
        ...tokens.map(({ text }) => ({ text, line: 0 })),
      ];
      const inner = element("div");
      this.prompt = prompt.length;
      this.panel = new AttentionPanel(inner, new Attention(attention, prompt.length), all, {
        onToken: (at) => { if (all[at].line) this.go(all[at].line); },
      });
      this.container.replaceChildren(element("h3", {}, "What it looks at"), inner);
      this.panel.show(this.prompt + this.number);
    } catch (error) {
      if (signal.aborted) return;
      this.request = null;
      this.wanted = false;
      this.container.replaceChildren(element("p", { class: "quiet" }, error.message));
    }
  }

  async #answer(signal) {
    for (;;) {
      try {
        return await this.ask("/page/explain", { ...this.question, attention: true }, signal);
      } catch (error) {
        if (error.status !== 503 || signal.aborted) throw error; // another request had priority
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
        signal.throwIfAborted();
      }
    }
  }
}
