"""Make a long run of the fuzzer: `python -m tests.refactor.fuzz --programs 20000`."""

from __future__ import annotations

import argparse
import sys
import time
import warnings

from tests.refactor.fuzz.attempt import Finding, Tally
from tests.refactor.fuzz.campaign import campaign, laboratory
from tests.refactor.fuzz.places import KINDS


def main() -> int:
    """Return 1 if a refactoring changed what a program does."""
    parser = argparse.ArgumentParser(prog="python -m tests.refactor.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=2_000, help="programs in all, the same number for each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after this time")
    parser.add_argument("--kind", action="append", choices=[kind.name for kind in KINDS], help="repeat for several")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if given.kind is None or kind.name in given.kind]
    warnings.simplefilter("ignore", SyntaxWarning)  # of programs that compare with a literal
    begun, wrong = time.monotonic(), 0

    def show(finding: Finding) -> None:
        print(f"== {finding.key}\n{finding}", flush=True)

    with laboratory() as lab:
        for at, kind in enumerate(kinds):
            tally, started = Tally(), time.monotonic()
            until = begun + given.minutes * 60 * (at + 1) / len(kinds)
            campaign(lab, kind, given.programs // len(kinds), given.seed, tally, until=until, found=show)
            wrong += tally.changed
            print(f"{kind.name}: {report(tally, time.monotonic() - started)}", flush=True)
    return 1 if wrong else 0


def report(tally: Tally, seconds: float) -> str:
    """Return the counts of a refactoring as text."""
    reasons = ", ".join(f"{rule} {count}" for rule, count in tally.refused.most_common())
    return (
        f"{tally.programs} programs ({tally.programs / seconds:.0f}/s), {tally.places} places tried, "
        f"{tally.in_menu} in the menu, {tally.made} made, {tally.results} results run, "
        f"{tally.unfinished} not comparable, {tally.changed} changed behaviour\n"
        f"    refused: {reasons or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
