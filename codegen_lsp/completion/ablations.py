"""The parts of a completion that can be left out, each alone, to find out what it gives.

A part that makes no figure worse when it is left out has not earned its place. The setting `without` and the option
`--without` of the commands that measure name them; nobody needs them for anything else.
"""

from __future__ import annotations

PARTS: dict[str, str] = {
    "window": "the prompt begins with a definition and stays there while you type; else it is the last characters",
    "infilling": "text after the cursor is part of the prompt, where the setting `infilling` has it so",
    "ngrams": "n-grams of the document are mixed into the model's probabilities, where its engine can",
    "elsewhere": "what a long document says beyond the prompt counts for n-gram mixing",
    "threshold": "what the model itself finds unlikely is not shown",
    "correctness": "what would not parse, or uses names that nothing defines, is not shown",
    "modules": "names that imported modules of the workspace do not have count as undefined, too",
    "context": "n-grams of similar files of the workspace are mixed in, too, where the engine can",
    "flight": "a generation that is under way goes on when what is typed meanwhile may be its beginning",
    "continuation": "after a suggestion was shown, what would follow it is prepared",
}
"""By name: what there is with the part."""
