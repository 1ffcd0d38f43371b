"""Source code on which builds are verified and compared."""

from __future__ import annotations

from pathlib import Path

import codegen_lsp

SNIPPET = '''\
import argparse
import csv
from collections import defaultdict
from pathlib import Path


class Ledger:
    """Amounts by account, read from CSV files."""

    def __init__(self, currency="EUR"):
        self.currency = currency
        self.entries = defaultdict(list)

    def add(self, account, amount):
        if amount == 0:
            raise ValueError("amount must not be zero")
        self.entries[account].append(amount)

    def balance(self, account):
        return sum(self.entries[account])

    def __len__(self):
        return len(self.entries)


def read_ledger(path):
    ledger = Ledger()
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            ledger.add(row["account"], float(row["amount"]))
    return ledger


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    ledger = read_ledger(args.path)
    for account in sorted(ledger.entries):
        print(account, ledger.balance(account))


if __name__ == "__main__":
    main()
'''
"""Ordinary Python, which is common in the training data of every checkpoint, `nl` included."""

MODULES = ("source/blocks.py", "source/brackets.py", "completion/window.py", "workspace/ignore.py")
"""Modules of this project that are further texts: real code, which no checkpoint was trained on."""


def comparison_texts() -> list[str]:
    """Return the texts on which two builds of one model are compared."""
    package = Path(codegen_lsp.__file__).parent
    return [SNIPPET, *((package / module).read_text(encoding="utf-8") for module in MODULES)]
