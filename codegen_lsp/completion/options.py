"""Limits on a completion."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Options:
    """Limits on a completion that follow from the settings and the model."""

    enabled: bool
    languages: frozenset[str]
    """LSP language identifiers for which suggestions are given; `*` stands for all."""
    prefix_characters: int
    """Most text before the cursor that is put into the prompt."""
    suffix_characters: int
    """Most text after the cursor that is put into the prompt of a model that infills."""
    related_characters: int
    """Most text of other files that is put into the prompt; 0 for none."""
    infill: bool
    """The model takes text after the cursor."""
    candidates: int
    """Different suggestions wanted when the user asks; otherwise it is one."""
    max_lines: int
    """Lines of a suggestion that may have several."""
    max_tokens: int
    """Tokens of a suggestion that may have several lines."""
    line_tokens: int
    """Tokens of a suggestion of one line."""
    temperature: float
    """Of sampling; 0 is greedy."""
    top_p: float
    """Nucleus sampling: the share of probability that is sampled from."""
    threshold: float
    """Least probability, by the model, of what is shown unasked; 0 shows everything."""
    ablate: frozenset[str]
    """Names of parts that are left out (`settings.ABLATIONS`)."""
