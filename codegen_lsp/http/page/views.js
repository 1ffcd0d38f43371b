// The views of the page: the editor at `/`, sessions at `/sessions`. One document has both, so a key is given once.

import { $ } from "./elements.js";

const VIEWS = { "/": ["editor-page", "codegen-lsp"], "/sessions": ["sessions-page", "Sessions · codegen-lsp"] };

function show() {
  const current = VIEWS[location.pathname] ? location.pathname : "/";
  for (const [path, [id]] of Object.entries(VIEWS)) $(id).hidden = path !== current;
  for (const link of $("views").querySelectorAll("a")) {
    if (link.pathname === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = VIEWS[current][1];
  dispatchEvent(new CustomEvent("view", { detail: current }));
}

export function start() {
  for (const link of $("views").querySelectorAll("a")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      if (link.pathname !== location.pathname) history.pushState(null, "", link.href);
      show();
    });
  }
  addEventListener("popstate", show);
  show();
}
