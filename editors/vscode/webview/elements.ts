/** Elements from names, attributes and children. Text is always set as text, so nothing of a program becomes markup. */

type Child = Node | string | null | false;
type Attributes = Readonly<Record<string, string | boolean | (() => void)>>;

/** Returns an element. `class` and other attributes are set as they are; `onclick` and the like are functions. */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key.slice(2), value);
    else if (typeof value === 'boolean') element.toggleAttribute(key, value);
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** Returns a button with a name for its focus, which outlives drawing anew. */
export function button(label: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  return h('button', { type: 'button', onclick: act, ...attributes }, label);
}
