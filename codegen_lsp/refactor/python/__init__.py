"""Refactorings of Python code."""
