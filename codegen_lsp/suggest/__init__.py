"""Inline suggestions: the application layer that the language server, the command line and `evaluation` share."""
