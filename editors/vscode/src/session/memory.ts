/**
 * What is known of turns beyond their file: what they did in this window, and the other candidates. It is kept by a
 * turn's request and code, so that undoing a change in the editor brings it back.
 */

import type { Choice, Outcome, Proposal, ServerTurn, ShownTurn } from './messages';

interface Known {
  readonly choices: readonly Choice[];
  readonly seed: number;
  readonly outcome: Outcome | null;
  /** What the file says that the turn did since then; anything else means that it was run again, or not at all. */
  readonly stated: string | null;
}

const NOTHING: Known = { choices: [], seed: 0, outcome: null, stated: null };
const MOST = 500;

export class Memory {
  private readonly known = new Map<string, Known>();

  /** Remembers the candidates for a request, one of which was taken, by the seed that they came from. */
  propose(request: string, proposals: readonly Proposal[], taken: number, seed: number): void {
    const choices = proposals.map(({ code, kind, reason, outcome }) => {
      const why = outcome?.explanation ?? '';
      return { code, kind, reason: why === '' ? reason : why };
    });
    const { code = '', outcome = null } = proposals[taken] ?? {};
    this.put(key(request, code), { choices, seed, outcome, stated: null });
  }

  /** Remembers that another candidate of a turn was taken, and what it did. */
  choose(turn: ServerTurn, code: string, outcome: Outcome | null): void {
    const { choices, seed } = this.of(turn);
    this.put(key(turn.request, code), { choices, seed, outcome, stated: null });
  }

  /** Remembers what turns did. */
  ran(turns: readonly ServerTurn[], outcomes: readonly Outcome[]): void {
    outcomes.forEach((outcome, at) => {
      const turn = turns[at];
      if (turn) this.put(key(turn.request, turn.code), { ...this.of(turn), outcome, stated: turn.output });
    });
  }

  /** Notes what a turn states in the file, right after it was taken. */
  state(turn: ServerTurn): void {
    const known = this.of(turn);
    if (known.outcome) this.put(key(turn.request, turn.code), { ...known, stated: turn.output });
  }

  /** Returns the seed of a turn's candidates. */
  seed(turn: ServerTurn): number {
    return this.of(turn).seed;
  }

  /** Returns the candidates of a turn. */
  choices(turn: ServerTurn): readonly Choice[] {
    return this.of(turn).choices;
  }

  /** Returns a turn with what is known of it. */
  shown(turn: ServerTurn): ShownTurn {
    const { request, code, output, edited } = turn;
    const { outcome, stated, choices } = this.of(turn);
    return { request, code, output, edited, outcome: stated === output ? outcome : null, choices };
  }

  private of(turn: ServerTurn): Known {
    return this.known.get(key(turn.request, turn.code)) ?? NOTHING;
  }

  private put(name: string, known: Known): void {
    this.known.delete(name);
    this.known.set(name, known);
    for (const oldest of this.known.keys()) {
      if (this.known.size <= MOST) break;
      this.known.delete(oldest);
    }
  }
}

function key(request: string, code: string): string {
  return JSON.stringify([request, code]);
}
