"""The text of one candidate while it is decoded: from tokens to text, stop rules, the part to stream."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

from attrs import define, field

from codegen_lsp.inference.engines.base import Completion
from codegen_lsp.inference.rpc.messages import Candidate, Finish, GeneratedToken, StopRules, TokenAlternative
from codegen_lsp.inference.stopping import held_back, is_unlikely, stop_position

Alternatives = list[tuple[int, float]]
"""Token ids and their log-probabilities in nats."""


@define
class DecodedAnswer:
    """The text of one candidate while it is decoded."""

    forced: bytes
    """Bytes that the answer must begin with; they are not part of its text."""
    rules: StopRules
    bytes_of: Callable[[int], bytes]
    """Returns the bytes of a token."""
    deadline_seconds: float | None = None
    """See `GenerateParams`."""
    reports_tokens: bool = False
    written: bytearray = field(factory=bytearray)
    tokens: int = 0
    cut: int | None = None
    unlikely: bool = False
    late: bool = False
    alternatives: Alternatives = field(factory=list)
    """Of the next token."""
    generated: list[GeneratedToken] = field(factory=list)
    steps: list[tuple[int, float]] = field(factory=list)
    """After each token, the length of the text, and the log-probability of the token; 0 while it is forced."""
    _first_at: float | None = None
    _streamed: int = 0
    """Length of the text that was streamed."""
    _streamed_tokens: int = 0

    @property
    def text(self) -> str:
        """The text after the forced bytes, without an incomplete last character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(bytes(self.written[len(self.forced) :])).replace("\r\n", "\n").replace("\r", "\n")

    @property
    def complete(self) -> bool:
        """True if the answer has all forced bytes."""
        return len(self.written) >= len(self.forced)

    def add(self, id: int, log_probability: float) -> bool:
        """Append a token. Return whether a stop rule applies."""
        if self._first_at is None:
            self._first_at = time.perf_counter()
        self.tokens += 1
        certain = len(self.written) < len(self.forced)
        before = self.steps[-1][0] if self.steps else 0
        self.written += self.bytes_of(id)
        text = self.text if len(self.written) > len(self.forced) else ""
        log_probability = 0.0 if certain else round(log_probability, 4)
        self.steps.append((len(text), log_probability))
        if self.reports_tokens:
            self._report(id, text[before:], log_probability)
        if not text:
            return False
        self.cut = stop_position(text, self.rules)
        self.unlikely = self.cut is None and is_unlikely([log for _, log in self.steps], self.rules)
        self.late = self._is_late(text)
        return self.cut is not None or self.unlikely or self.late

    def streamable(self) -> tuple[str, list[GeneratedToken]]:
        """Return the text since the last call that no stop rule can cut away any more, and the tokens of it."""
        text = self.text if self.complete else ""
        end = len(text) - held_back(text, self.rules) if self.cut is None else self.cut
        new, self._streamed = text[self._streamed : end], max(self._streamed, end)
        shown = self.shown_tokens
        count = len(shown) if self.cut is not None else self._complete_tokens(self._streamed)
        tokens, self._streamed_tokens = shown[self._streamed_tokens : count], max(self._streamed_tokens, count)
        return new, tokens

    def _complete_tokens(self, length: int) -> int:
        """Return the number of tokens of the first `length` characters, without those whose character is not whole."""
        count = sum(end <= length for end, _ in self.steps)
        while count and self.steps[count - 1][0] == (self.steps[count - 2][0] if count > 1 else 0):
            count -= 1
        return count

    @property
    def shown_tokens(self) -> list[GeneratedToken]:
        """The tokens of the text up to its end; the last one without the text behind it."""
        if self.cut is None or not self.reports_tokens:
            return self.generated
        shown: list[GeneratedToken] = []
        start = 0
        for token, (end, _) in zip(self.generated, self.steps, strict=True):
            if start >= self.cut and (shown or start):
                break
            text = token.text[: max(0, self.cut - start)]
            shown.append(GeneratedToken(token.id, text, token.data, token.log_probability, token.alternatives))
            start = end
        return shown

    def candidate(self, completion: Completion) -> Candidate:
        """Return the finished candidate."""
        text = self.text if self.complete else ""
        cut = len(text) if self.cut is None else self.cut
        finish: Finish = "stop" if self.cut is not None else "end" if completion.ended else "length"
        if self.unlikely:
            finish = "unlikely"
        strings = (string for string in self.rules.strings if string and text.startswith(string, cut))
        logs = completion.log_probabilities
        return Candidate(
            text=text[:cut],
            tokens=self.tokens,
            log_probability=sum(logs) / max(1, len(logs)),
            finish=finish,
            steps=[(min(end, cut), log) for end, log in self.steps],
            generated=self.shown_tokens,
            stopped_by=next(strings, "") if self.cut is not None else "",
        )

    def _is_late(self, text: str) -> bool:
        if self.deadline_seconds is None or self._first_at is None or "\n" not in text:
            return False
        return time.perf_counter() - self._first_at > self.deadline_seconds

    def _report(self, id: int, text: str, log_probability: float) -> None:
        alternatives = [
            TokenAlternative(other, data.decode("utf-8", "replace"), list(data), round(log, 4))
            for other, log in self.alternatives
            for data in [self.bytes_of(other)]
        ]
        self.alternatives = []
        data = list(self.bytes_of(id))
        self.generated.append(GeneratedToken(id, text, data, log_probability, alternatives))
