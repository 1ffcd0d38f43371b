"""The model from Python: generate text and complete code without a server (`codegen_lsp.load`)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

from attrs import frozen

from codegen_lsp.checkpoints.store import find
from codegen_lsp.completion.planning import plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Trigger
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    ModelDescription,
    ScoredText,
    StopRules,
    StreamedText,
)
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.truncation import Truncation
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.options import load_params, options_for


class GenerationError(CodegenError):
    """Parameters of a generation that make no sense together."""


@frozen
class GeneratedText:
    """A text that the model wrote."""

    text: str
    """The text after the prompt."""
    tokens: int
    """Number of generated tokens."""
    log_probability: float
    """Mean over the tokens, in nats."""
    finish: str
    """Reason why it ended: `stop` (a stop string or pattern), `length`, or `end` (the model's end of text)."""

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@frozen
class TextRequest:
    """Parameters of `CodeModel.generate`, in the terms of transformers."""

    prompt: str
    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 is for all tokens."""
    n: int = 1
    """Number of texts."""
    truncate_before_pattern: Sequence[str] = ()
    """Regular expressions, as transformers' tokenizer of CodeGen takes them (`Truncation`)."""
    stop: Sequence[str] = ()
    """The text ends before the first of these."""
    seed: int | None = None
    """Seed of sampling; None draws one."""

    def params(self) -> GenerateParams:
        """Return the request to the model. Raises: GenerationError."""
        if self.n > 1 and not self.temperature:
            raise GenerationError("Several texts need a temperature above 0, or they are all the same.", "Set it.")
        if self.max_new_tokens < 1 or self.n < 1:
            raise GenerationError("There is nothing to generate.", "Ask for at least one token of one text.")
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise GenerationError(
                "A temperature and a top_k are not negative, and a top_p is above 0 and at most 1.", "Correct them."
            )
        check_text(self.prompt, *self.stop)
        return GenerateParams(
            "generate",
            self.prompt.replace("\r\n", "\n"),
            stop=StopRules(max_tokens=self.max_new_tokens, max_lines=self.max_new_tokens + 1, strings=list(self.stop)),
            candidates=self.n,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            heal=False,
            distinct=False,
        )

    def truncation(self) -> Truncation:
        """Return how texts are truncated. Raises: ModelError when a pattern is no regular expression."""
        return Truncation.of(self.truncate_before_pattern)


class CodeModel:
    """A loaded model. One call at a time; calls of other threads wait."""

    def __init__(self, model: TextModel, description: ModelDescription, settings: Settings) -> None:
        self.description = description
        """Name, engine, context length and so on."""
        self._model = model
        self._settings = settings
        self._lock = threading.Lock()

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        n: int = 1,
        truncate_before_pattern: Sequence[str] = (),
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> list[GeneratedText]:
        """Return `n` continuations of a prompt; see `TextRequest`.

        Raises: ModelError and GenerationError.
        """
        request = TextRequest(prompt, max_new_tokens, temperature, top_p, top_k, n, truncate_before_pattern, stop, seed)
        truncation = request.truncation()
        with self._lock:
            found = self._model.generate(request.params(), CancellationToken())
        return [generated(candidate, truncation) for candidate in found.candidates]

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        truncate_before_pattern: Sequence[str] = (),
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield the parts of one continuation as they are generated. Closing the iterator ends the generation.

        Raises: ModelError and GenerationError.
        """
        request = TextRequest(prompt, max_new_tokens, temperature, top_p, top_k, 1, truncate_before_pattern, stop, seed)
        truncation, params = request.truncation(), request.params()
        parts: queue.SimpleQueue[str | Candidate | Exception] = queue.SimpleQueue()
        cancellation = CancellationToken()

        def on_text(part: StreamedText) -> None:
            parts.put(part.text)

        def work() -> None:
            try:
                with self._lock:
                    found = self._model.generate(params, cancellation, on_text=on_text)
                parts.put(found.candidates[0] if found.candidates else Candidate("", 0, 0.0, "end"))
            except Exception as error:
                parts.put(error)

        threading.Thread(target=work, name="generate", daemon=True).start()
        try:
            text = shown = ""
            while isinstance(part := parts.get(), str):
                text += part
                safe = truncation.safe(text)
                yield safe[len(shown) :]
                shown = safe
                if truncation.cuts(text):
                    return
            if isinstance(part, Exception) and not isinstance(part, Cancelled):
                raise part
            if isinstance(part, Candidate):
                yield truncation.apply(part.text)[len(shown) :]
        finally:
            cancellation.cancel()

    def complete(self, prefix: str, suffix: str = "", *, language: str = "python", filename: str = "") -> str:
        """Return the text that an editor would suggest at a cursor between two texts; empty if it would show none.

        Raises: ModelError and GenerationError.
        """
        check_text(prefix, suffix)
        snapshot = Snapshot(
            uri=f"untitled:{filename}",
            version=0,
            language=language,
            text=prefix + suffix,
            offset=len(prefix),
            trigger=Trigger.INVOKED,
        )
        planned = plan(snapshot, options_for(self._settings, language, self.description))
        if isinstance(planned, Refusal):
            return ""
        params = GenerateParams(
            "complete",
            planned.prefix,
            planned.suffix,
            planned.stop,
            planned.candidates,
            planned.temperature,
            planned.top_p,
            related=list(planned.rest_of_document),
        )
        with self._lock:
            found = self._model.generate(params, CancellationToken())
        shaped = shape_all(found.candidates, planned)
        if isinstance(shaped, Refusal):
            return ""
        first = shaped[0]
        return first.insert[snapshot.offset - first.start :]

    def score(self, text: str, before: str = "") -> float:
        """Return the log-likelihood of a text in nats, given the text before it.

        Raises: ModelError and GenerationError.
        """
        check_text(text, before)
        with self._lock:
            (score,) = self._model.score([ScoredText(before, text)], CancellationToken()).scores
        return score.log_probability

    def close(self) -> None:
        """Free the memory."""
        self._model.close()

    def __enter__(self) -> CodeModel:
        """Return the model itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the memory."""
        self.close()


def check_text(*texts: str) -> None:
    """Raise GenerationError for a text with halves of surrogate pairs, as Python reads bytes that are not UTF-8."""
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise GenerationError(
                f"Character {error.start + 1} of the text is no character of Unicode.", "Give text in UTF-8."
            ) from None


def generated(candidate: Candidate, truncation: Truncation) -> GeneratedText:
    """Return the text of a candidate, truncated."""
    text = truncation.apply(candidate.text)
    finish = "stop" if len(text) < len(candidate.text) else candidate.finish
    return GeneratedText(text, candidate.tokens, candidate.log_probability, finish)


def open_model(model: str, *, device: str, threads: int, engine: str, ngrams: str) -> CodeModel:
    """See `codegen_lsp.load`."""
    build = find(model)
    settings = Settings(
        model=model,
        device=device,
        threads=threads,
        engine=engine,
        ngrams=ngrams,
        candidates=1,
        languages={"*": True},
    )
    loaded, description = load_model(load_params(settings, build.path), lambda message, share: None)
    return CodeModel(loaded, description, settings)
