// Parts of the page that its views share. Text is only ever inserted as text nodes.

export const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

export function button(text, attributes, clicked) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", clicked);
  return made;
}

// Return a text with the characters visible that would change how others are shown.
export function printable(text) {
  return text
    .replace(/\r\n/g, "\n")
    .replace(/[\0-\x08\x0b-\x1f]/g, (sign) => String.fromCharCode(0x2400 + sign.charCodeAt(0)))
    .replace(/[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
      (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
