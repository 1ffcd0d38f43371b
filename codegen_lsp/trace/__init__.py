"""Traces of suggestions: tokens and prompt, where each comes from, and what the model attended to."""
