// Attention of a trace: decoding, and the panel with the grid of layers and heads. The page of the server uses it, too.

const SQUARES = Float32Array.from({ length: 256 }, (_, byte) => (byte / 255) ** 2); // see AttentionRecord
const LISTED = 8; // tokens below the grid

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** The weights with which each token of a text was chosen. Tokens are those of the prompt, then the suggestion's. */
export class Attention {
  constructor(record, prompt) {
    const tokens = bytesOf(record.prompt_tokens);
    this.layers = record.layers;
    this.heads = record.heads;
    this.prompt = prompt;
    this.kept = record.kept;
    this.rows = record.suggestion.map(bytesOf);
    this.named = Uint16Array.from({ length: tokens.length / 2 }, (_, at) => tokens[2 * at] | tokens[2 * at + 1] << 8);
    this.namedWeights = bytesOf(record.prompt_weights);
  }

  has(token) {
    return token < this.prompt ? token > 0 : token - this.prompt < this.rows.length;
  }

  /** True if the weights of all tokens are known, not only the largest. */
  whole(token) {
    return token >= this.prompt;
  }

  /** Weights of all tokens before this one, in one head; the mean over heads where layer or head is null. */
  of(token, layer, head) {
    const sum = new Float32Array(token);
    if (!this.has(token)) return sum;
    const layers = layer === null ? [...Array(this.layers).keys()] : [layer];
    const heads = head === null ? [...Array(this.heads).keys()] : [head];
    const share = 1 / (layers.length * heads.length);
    for (const one of layers) for (const other of heads) this.#add(sum, token, one * this.heads + other, share);
    return sum;
  }

  /** For each layer and head the token, but for the first of all, that gets the most, and its weight. */
  peaks(token) {
    const found = [];
    for (let map = 0; map < this.layers * this.heads; map++) {
      const sum = new Float32Array(token);
      if (this.has(token)) this.#add(sum, token, map, 1);
      let best = token > 1 ? 1 : 0;
      for (let at = best + 1; at < token; at++) if (sum[at] > sum[best]) best = at;
      found.push({ token: best, weight: sum[best] ?? 0 });
    }
    return found;
  }

  #add(sum, token, map, share) {
    if (token >= this.prompt) {
      const row = this.rows[token - this.prompt], start = map * token;
      for (let at = 0; at < token; at++) sum[at] += share * SQUARES[row[start + at]];
      return;
    }
    const start = ((token - 1) * this.layers * this.heads + map) * this.kept;
    for (let at = start; at < start + this.kept; at++) {
      if (this.namedWeights[at]) sum[this.named[at]] += share * SQUARES[this.namedWeights[at]];
    }
  }
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

export const percent = (share) => share > 0 && share < 0.005 ? "<1 %" : `${Math.round(100 * share)} %`;

/** Text in which controls and characters that change the direction of text are written as their numbers. */
export function escaped(text) {
  return text.replace(/[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu,
    (character) => character === "\t" ? character : `⟨${character.codePointAt(0).toString(16).padStart(4, "0")}⟩`);
}

/** The same, with blanks and line ends that can be seen. */
export function visible(text) {
  const blanks = text.replaceAll("\n", "↵").replaceAll("\t", "→").replace(/^ +| +$/g, (some) => "·".repeat(some.length));
  return escaped(blanks);
}

/** The grid of layers and heads of one token, and the tokens that it attends to most. */
export class AttentionPanel {
  /** `tokens` have {text, line}; `onChange` is called when another head is chosen, `onToken` with a listed token. */
  constructor(container, attention, tokens, { onChange = () => {}, onToken = () => {} } = {}) {
    Object.assign(this, { container, attention, tokens, onChange, onToken, layer: null, head: null, token: 0 });
    this.grid = element("div", { class: "heads", role: "group", "aria-label": "Layers and heads" });
    this.title = element("p", { class: "heads-title", "aria-live": "polite" });
    this.list = element("ol", { class: "looked-at" });
    this.grid.style.setProperty("--heads", attention.heads);
    this.grid.classList.toggle("many", attention.heads > 16);
    this.#fill();
    container.replaceChildren(this.grid, this.title, this.list);
    this.grid.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.choose(...this.#placeOf(button));
    });
    this.grid.addEventListener("keydown", (event) => this.#key(event));
  }

  #fill() {
    const { layers, heads } = this.attention;
    this.buttons = new Map();
    const add = (layer, head, text, label) => {
      const button = element("button", { type: "button", tabindex: "-1", "aria-label": label, "aria-pressed": "false" }, text);
      button.className = layer === null || head === null ? "mean" : "head";
      if (layer !== null) button.dataset.layer = layer;
      if (head !== null) button.dataset.head = head;
      this.buttons.set(`${layer} ${head}`, button);
      this.grid.append(button);
    };
    add(null, null, "all", "All layers and heads");
    for (let head = 0; head < heads; head++) this.grid.append(element("span", { class: "axis", "aria-hidden": "true" }, `${head + 1}`));
    for (let layer = 0; layer < layers; layer++) {
      add(layer, null, `${layer + 1}`, `Layer ${layer + 1}, all heads`);
      for (let head = 0; head < heads; head++) add(layer, head, "", `Layer ${layer + 1}, head ${head + 1}`);
    }
  }

  #placeOf(button) {
    const number = (value) => value === undefined ? null : Number(value);
    return [number(button.dataset.layer), number(button.dataset.head)];
  }

  #key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }, move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    const row = this.layer === null ? 0 : this.layer + 1, column = this.head === null ? 0 : this.head + 1;
    const layer = Math.min(Math.max(row + move[0], 0), this.attention.layers);
    const head = layer ? Math.min(Math.max(column + move[1], 0), this.attention.heads) : 0;
    this.choose(layer ? layer - 1 : null, head ? head - 1 : null);
    this.buttons.get(`${this.layer} ${this.head}`).focus();
  }

  /** Show one head; null stands for the mean over all. */
  choose(layer, head) {
    Object.assign(this, { layer, head });
    this.show(this.token);
    this.onChange();
  }

  /** Show what a token was chosen by, and return the weights of the tokens before it. */
  show(token) {
    this.token = token;
    const { attention, layer, head } = this, weights = attention.of(token, layer, head);
    for (const [place, button] of this.buttons) {
      button.setAttribute("aria-pressed", String(place === `${layer} ${head}`));
      button.tabIndex = place === `${layer} ${head}` ? 0 : -1;
    }
    attention.peaks(token).forEach(({ token: best, weight }, map) => {
      const at = [Math.floor(map / attention.heads), map % attention.heads], button = this.buttons.get(at.join(" "));
      button.style.setProperty("--weight", `${Math.round(100 * Math.sqrt(weight))}%`);
      button.title = `Layer ${at[0] + 1}, head ${at[1] + 1}: ` +
        (weight ? `${percent(weight)} on ${visible(this.tokens[best].text)}` : "nearly all on the first token");
    });
    const where = layer === null ? "All layers and heads, mean" : head === null ? `Layer ${layer + 1}, mean of its heads` : `Layer ${layer + 1}, head ${head + 1}`;
    this.title.textContent = !attention.has(token) ? "Not recorded for this token."
      : where + (attention.whole(token) ? "" : `; the ${attention.kept} largest weights of each head`);
    const best = [...weights.keys()].filter((at) => weights[at] > 0.0005).sort((one, other) => weights[other] - weights[one]).slice(0, LISTED);
    this.list.replaceChildren(...best.map((at) => this.#item(at, weights[at])));
    return weights;
  }

  #item(at, weight) {
    const { text, line } = this.tokens[at], bar = element("span", { class: "weight", "aria-hidden": "true" });
    bar.style.setProperty("--weight", `${100 * weight}%`);
    const where = line ? `line ${line}` : at >= this.attention.prompt ? "suggestion" : at ? "mark" : "first token";
    const button = element("button", { type: "button", "data-token": at },
      bar, element("code", {}, visible(text)), element("small", {}, where), element("b", {}, percent(weight)));
    button.addEventListener("click", () => this.onToken(at));
    return element("li", {}, button);
  }
}
