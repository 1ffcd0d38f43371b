"""Sandboxed execution of untrusted Python programs."""
