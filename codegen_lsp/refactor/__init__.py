"""Refactorings on demand: the menu at a selection, the work, and the checks of its results. Knows no protocol."""
