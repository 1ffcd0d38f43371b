"""From the prompt of a client to a request: an editor's, if there is text after the cursor, or a continuation.

A client has text after the cursor either apart, as a suffix, or in the prompt, between the marks of some model.
"""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.http.infill_marks import split_prompt
from codegen_lsp.http.mark_filter import end_marks
from codegen_lsp.http.requests import CompletionRequest


def with_prompt(request: CompletionRequest, prompt: str, suffix: str | None = None) -> CompletionRequest:
    """Return the request with a prompt, and a suffix if the client sent one.

    Raises: RequestProblem when the prompt has marks and can be split at several places.
    """
    if suffix:
        return evolve(request, prefix=prompt, suffix=suffix, infill=True)
    split = split_prompt(prompt)
    if split is None:
        return evolve(request, prefix=prompt, infill=suffix is not None)
    return evolve(
        request,
        prefix=split.prefix,
        suffix=split.suffix,
        extra=(*request.extra, *split.extra),
        filename=request.filename or split.filename,
        infill=True,
        end_marks=end_marks(split.form),
    )
