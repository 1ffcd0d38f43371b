"""The first half of a completion: from a snapshot to the request to the model.

`plan` decides whether to ask, with which text, and how far the answer may go; `shape_all` in `shaping` is the second
half. The stop rules are a value class of the inference messages, a module of plain data; completion imports nothing
else of inference.
"""

from __future__ import annotations

from attrs import evolve, field, frozen

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.refusals import first_refusal
from codegen_lsp.completion.snapshot import Cursor, Refusal, Snapshot, Trigger
from codegen_lsp.completion.stop_policy import stop_rules
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.completion.window import last_characters, rest_of_document, steady_suffix, window_after, window_before
from codegen_lsp.inference.rpc.messages import StopRules


@frozen
class Plan:
    """A request to the model, and what is needed to shape its answer."""

    prefix: str
    suffix: str
    stop: StopRules
    candidates: int
    temperature: float
    top_p: float
    cursor: Cursor
    rest_of_document: tuple[str, ...] = ()
    """The document before the prefix and after the suffix, which the answer may repeat."""
    document: str | None = None
    """The whole document, in which a suggestion must be correct; None if that is not checked."""
    modules: Modules = field(factory=dict)
    """The names in modules of the workspace, for `undefined_names`."""


def plan(snapshot: Snapshot, options: Options, last_suffix: str = "") -> Plan | Refusal:
    """Return the request to the model for the snapshot's cursor, or the reason why there is none.

    `last_suffix` is the suffix of the document's last prompt, which is kept while the text hardly changes.
    """
    if refusal := first_refusal(snapshot, options):
        return refusal
    before = last_characters if "window" in options.ablate else window_before
    infill = options.infill and "infilling" not in options.ablate
    invoked = snapshot.trigger is Trigger.INVOKED
    prefix = before(snapshot, options.prefix_characters)
    suffix = window_after(snapshot, options.suffix_characters) if infill else ""
    rest = () if "rest_of_document" in options.ablate else rest_of_document(snapshot, prefix, suffix)
    return Plan(
        prefix=prefix,
        suffix=suffix if "window" in options.ablate else steady_suffix(suffix, last_suffix),
        stop=evolve(
            stop_rules(snapshot, options),
            threshold=0.0 if invoked or "threshold" in options.ablate else options.threshold,
        ),
        candidates=options.candidates if invoked else 1,
        temperature=options.temperature,
        top_p=options.top_p,
        cursor=snapshot.cursor,
        rest_of_document=rest,
        document=None if "correctness" in options.ablate else snapshot.text,
    )
