"""Parameters of sampling that clients send and this server does not apply.

Most clients send some of them with each request, many without knowing, so a refusal would shut them out. A header of
the answer names those whose value would have changed the text.
"""

from __future__ import annotations

from codegen_lsp.http.fields import Fields

HEADER = "X-Codegen-Lsp-Ignored"
NEUTRAL: dict[str, float] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repeat_penalty": 1,
    "repetition_penalty": 1,
    "min_p": 0,
    "typical_p": 1,
    "tfs_z": 1,
    "top_n_sigma": -1,
    "mirostat": 0,
    "dry_multiplier": 0,
    "xtc_probability": 0,
    "dynatemp_range": 0,
    "min_tokens": 0,
    "ignore_eos": 0,
}
"""Names that OpenAI, llama.cpp, Ollama and vLLM have for them, each with the value that changes nothing."""
TABLES = ("options",)
"""Objects of a body that have such parameters, beside the body itself: Ollama's."""


def ignored_fields(fields: Fields) -> list[str]:
    """Return the names of the parameters of a body that should have changed the answer, and did not."""
    tables = [fields.values, *(found for name in TABLES if isinstance(found := fields.values.get(name), dict))]
    return [
        name
        for name, neutral in NEUTRAL.items()
        if any(isinstance(value := table.get(name), int | float) and value != neutral for table in tables)
    ]
