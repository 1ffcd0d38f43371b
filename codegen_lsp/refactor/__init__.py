"""Refactorings on demand: what may be done at a place, doing it, and checking what came out. Knows no protocol."""
