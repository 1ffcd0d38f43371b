/** What the language server, the extension and the page of a session's panel say to each other. */

export interface Position {
  readonly line: number;
  readonly character: number;
}

export interface Range {
  readonly start: Position;
  readonly end: Position;
}

export interface TextEdit {
  readonly range: Range;
  readonly newText: string;
}

/** What a turn did, by its examples: they hold; there are none; one does not hold; it failed; it was stopped. */
export type Kind = 'right' | 'ran' | 'contradicts' | 'failed' | 'timeout';

// The server's answers to codegen-lsp/synthesis/* (docs/protocol.md).

export interface ServerTurn {
  readonly request: string;
  readonly code: string;
  readonly output: string;
  readonly edited: boolean;
  readonly range: Range;
}

export interface ServerTurns {
  readonly version: number;
  readonly turns: readonly ServerTurn[];
}

export interface Table {
  readonly name: string;
  readonly heads: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly dropped: number;
}

export interface MadeFile {
  readonly name: string;
  readonly base64: string;
}

export interface Outcome {
  readonly kind: Kind;
  readonly reason: string;
  readonly output: string;
  readonly value: string;
  readonly error: string;
  readonly explanation: string;
  readonly tables: readonly Table[];
  readonly files: readonly MadeFile[];
}

export interface Proposal {
  readonly code: string;
  readonly kind: Kind;
  readonly reason: string;
  readonly edits: readonly TextEdit[] | null;
  readonly outcome: Outcome | null;
}

export interface Question {
  readonly kind: 'undefined' | 'example';
  readonly text: string;
  readonly name: string;
}

export interface Proposals {
  readonly version: number;
  readonly proposals: readonly Proposal[];
  readonly questions: readonly Question[];
}

export interface RunReport {
  readonly version: number;
  readonly kind: Kind;
  readonly reason: string;
  readonly edits: readonly TextEdit[];
  readonly turns: readonly Outcome[];
}

// Between the extension and the page.

/** A candidate, as its button shows it. */
export interface Choice {
  readonly code: string;
  readonly kind: Kind;
  readonly reason: string;
}

/** A turn, as it is shown. */
export interface ShownTurn {
  readonly request: string;
  readonly code: string;
  /** What the file says that it did. */
  readonly output: string;
  readonly edited: boolean;
  /** What it did, if it ran in this window and nothing has changed since. */
  readonly outcome: Outcome | null;
  readonly choices: readonly Choice[];
}

/** A request that leaves something open. */
export interface Asked {
  readonly place: Place;
  readonly request: string;
  readonly questions: readonly Question[];
}

/** The place of a turn to be written: a new one at the end, in place of a turn, or before it. */
export interface Place {
  readonly turn: number | null;
  readonly insert: boolean;
}

/** Something to tell the user. */
export interface Notice {
  readonly kind: 'error' | 'done';
  readonly text: string;
}

/** All that the page shows. */
export interface SessionState {
  readonly uri: string;
  readonly name: string;
  readonly trusted: boolean;
  /** Why nothing can be asked now; empty if it can. */
  readonly obstacle: string;
  /** True with a model that is too small for whole steps. */
  readonly smallModel: boolean;
  readonly turns: readonly ShownTurn[];
  /** What goes on, with the index of its turn; null if nothing does. */
  readonly busy: { readonly text: string; readonly turn: number | null } | null;
  readonly asked: Asked | null;
  readonly notice: Notice | null;
  readonly rewriteLater: boolean;
}

/** From the extension to the page. */
export type ToPage =
  | { readonly type: 'state'; readonly state: SessionState }
  /** Put the focus on a turn, or on the field for the next one. */
  | { readonly type: 'focus'; readonly turn: number | null }
  /** A request was taken: forget its text. */
  | { readonly type: 'taken'; readonly place: Place };

/** From the page to the extension: what the user wants. */
export type FromPage =
  | { readonly type: 'ready' }
  | { readonly type: 'ask'; readonly place: Place; readonly request: string; readonly answered: boolean }
  | { readonly type: 'retry' | 'remove' | 'show'; readonly turn: number }
  | { readonly type: 'choose'; readonly turn: number; readonly choice: number }
  | { readonly type: 'edit'; readonly turn: number; readonly code: string }
  | { readonly type: 'save'; readonly turn: number; readonly file: number }
  | { readonly type: 'rewriteLater'; readonly on: boolean }
  | { readonly type: 'run' | 'undo' | 'redo' | 'stop' | 'forget' | 'trust' | 'switchModel' };
