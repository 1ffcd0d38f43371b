/** Colours for Python code: strings, comments, numbers and keywords. */

import { h } from './elements';

const KEYWORDS =
  'False None True and as assert async await break class continue def del elif else except finally for from global if ' +
  'import in is lambda nonlocal not or pass raise return try while with yield match case';
const PARTS = new RegExp(
  [
    '(?<comment>#[^\\n]*)',
    '(?<string>\\b[rbfuRBFU]{0,2}(?:"""[^]*?(?:"""|$)|\'\'\'[^]*?(?:\'\'\'|$)|"(?:\\\\.|[^"\\\\\\n])*"?|\'(?:\\\\.|[^\'\\\\\\n])*\'?)' +
      '|"""[^]*?(?:"""|$)|\'\'\'[^]*?(?:\'\'\'|$)|"(?:\\\\.|[^"\\\\\\n])*"?|\'(?:\\\\.|[^\'\\\\\\n])*\'?)',
    '(?<number>\\b\\d[\\w.]*)',
    `(?<keyword>\\b(?:${KEYWORDS.replaceAll(' ', '|')})\\b)`,
  ].join('|'),
  'g',
);

/** Returns code as coloured text. */
export function coloured(code: string): DocumentFragment {
  const found = document.createDocumentFragment();
  let at = 0;
  for (const match of code.matchAll(PARTS)) {
    const groups: Partial<Record<string, string>> = match.groups ?? {};
    const kind = Object.keys(groups).find((name) => groups[name] !== undefined) ?? '';
    found.append(code.slice(at, match.index), h('span', { class: kind }, match[0]));
    at = match.index + match[0].length;
  }
  found.append(code.slice(at));
  return found;
}
