"""Inline code completion on the user's own machine, from CodeGen checkpoints, over the Language Server Protocol."""

__version__ = "0.1.0"
