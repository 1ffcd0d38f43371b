// Snippets to try, with the cursor at │.

export const EXAMPLES = [
  ["A class", "python", `import json
from pathlib import Path


class Inventory:
    """Items in stock, by name."""

    def __init__(self, path: Path):
        self.path = path
        self.items = {}

    def add(self, name, count=1):
        """Add items."""
        self.items[name] = self.items.get(name, 0) + count

    def remove(self, name, count=1):
        """Remove items."""
        self.items[name] = self.items.get(│

    def save(self):
        self.path.write_text(json.dumps(self.items))
`],
  ["Tests", "python", `import unittest

from shop import Basket


class BasketTest(unittest.TestCase):
    def setUp(self):
        self.basket = Basket()

    def test_an_empty_basket_costs_nothing(self):
        self.assertEqual(self.basket.total(), 0)

    def test_prices_add_up(self):
        self.basket.put("pear", price=3)
        self.basket.put("plum", price=2)
        self.assertEqual(self.basket.│
`],
  ["A command", "python", `import argparse


def main():
    parser = argparse.ArgumentParser(description="Count words in files.")
    parser.add_argument("files", nargs="+", help="files to read")
    parser.add_argument("--top", type=int, default=10, help="number of words to print")
    args = parser.parse_args()
    for name in args.│


if __name__ == "__main__":
    main()
`],
];
