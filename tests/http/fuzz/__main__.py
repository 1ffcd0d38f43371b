"""Make a long run of the fuzzer of the HTTP server: `python -m tests.http.fuzz --requests 100000`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.http.fuzz.campaign import Report, campaign, marked_server


def main() -> int:
    """Return 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.http.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with marked_server() as (server, log, mark):
        report = asyncio.run(campaign(server, log, mark, given.requests, given.seed))
        print(log.read_text()[-3_000:] if report.problems else "", end="")
    print(shown(report), flush=True)
    return 1 if report.problems else 0


def shown(report: Report) -> str:
    """Return a report as text."""
    lines = [f"{report.sent.total():,} requests in {report.levels[-1].seconds:.0f} s"]
    lines += [f"    {count:>7,} {kind}" for kind, count in sorted(report.sent.items())]
    lines.append("answers")
    lines += [f"    {count:>7,} {status}" for status, count in sorted(report.answers.items())]
    lines.append(f"right requests in between, answered rightly: {report.right:,}")
    for levels in report.levels:
        for name, level in sorted(levels.processes.items()):
            lines.append(
                f"{levels.at}: {name.split()[0]} {level.memory_mb:.0f} MiB, {level.descriptors} descriptors, "
                f"{level.threads} threads"
            )
    lines += [f"WRONG, {count} times: {problem}" for problem, count in report.problems.most_common()]
    if not report.problems:
        lines.append("Everything was answered or closed, nothing was logged, and no process grew.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
