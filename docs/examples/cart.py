"""A shop's cart: the file that docs/refactoring.md refactors."""

import os


def calc(items, discount):
    """Return what the items of a cart cost.

    Args:
        items: The things in the cart.
        discount: Which share of the price is taken off.
    """
    amount = 0
    for item in items:
        amount += item.price * item.count
    return amount * (1 - discount)


def _net(price, rate):
    return price / (1 + rate)


def report(items, path, rate):
    x = open(path, "w")
    for item in items:
        x.write(item.name + ": " + str(_net(item.price, rate) + item.tax) + "\n")
    size = len(items)
    if not size:
        return "empty"
    else:
        return os.path.basename(path)


def label(name, count=1):
    return name * count


def file_name(path):
    """Return the name of the file at a path."""
    pass


def cheapest(items):
    # use the built-in min
    best = items[0]
    for item in items:
        if item.price < best.price:
            best = item
    return best


def heading(path):
    # the name of the file

    return path.title()
