"""A model of a person at an editor: the next key, the time until it, and its effect on the text.

The person types stretches that were cut out of real files, and knows every character of them. The editor behaves as VS
Code does by default: it closes brackets and quotes, lets the person type over them, indents after Enter, and removes
the white space of empty lines. Every random draw depends only on the seed and the place, so two runs with different
suggestions type alike wherever both type by hand.

Gaps between keys are log-normal (González et al., 2021, find that it fits free text well) around the mean of 168,000
people, 0.239 s (Dhakal et al., 2018), with a longer pause at the start of each line, which brings code to about 200
characters a minute. Their spread, the length of the pause, and the rates of mistakes and of overlooked suggestions are
assumptions, stated as constants below.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence

from attrs import define, field

from codegen_lsp.benchmarks.editor_behavior import CLOSING, QUOTES, closer_of, indentation_step, line_break_after
from codegen_lsp.benchmarks.keystrokes import Key, KeyKind, ShownSuggestion, Stretch
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.source.brackets import scan
from codegen_lsp.source.languages import Language, language_of

MEAN_GAP = 0.239
"""Seconds between two keys within a line (Dhakal et al., 2018)."""
GAP_SPREAD = 0.6
"""Standard deviation of the logarithm of a gap: half of them lie between 0.13 and 0.3 s."""
LINE_PAUSE = 2.0
"""Mean seconds of the pause before a line."""
PAUSE_SPREAD = 0.8
CHARACTERS_A_MINUTE = 200
"""The typing speed that results from the gaps, over lines of code."""
TYPO_RATE = 0.03
"""Share of letters and digits that are mistyped first, and corrected after up to two more characters."""
LOOK_RATE = 0.5
"""Share of the keys at which the person looks at the suggestion; otherwise typing goes on."""
REACTION_TIME = 0.2
"""Seconds after which a suggestion on the screen is noticed (a simple reaction time)."""
JUMP_RATE = 0.08
"""Share of line ends at which the person moves to the other stretch of the file."""
MIN_GAIN = 2
"""Characters beyond those of its key that an accepted suggestion must bring."""
STRETCHES = 2
"""Stretches in each file."""

_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")
"""The text that accepting by word takes at once."""
_MIN_WORDS_GAIN = 4
"""Minimum characters that accepting by word must bring."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@define
class TypingSession:
    """The typing of one file, with the text and cursor of the editor."""

    document: SourceDocument
    spans: Sequence[tuple[int, int]]
    """The stretches, as offsets in the document, in order and apart."""
    seed: int
    stretches: list[Stretch] = field(init=False)
    current: int = 0
    _language: Language = field(init=False)
    _step: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stretches = [Stretch(self.document.text[start:end]) for start, end in self.spans]
        self._language = language_of(self.document.language)
        self._step = indentation_step(self.document.text)

    @property
    def text(self) -> str:
        """The current text of the document."""
        pieces: list[str] = []
        at = 0
        for (start, end), stretch in zip(self.spans, self.stretches, strict=True):
            pieces += [self.document.text[at:start], stretch.typed, stretch.pending]
            at = end
        return "".join([*pieces, self.document.text[at:]])

    @property
    def cursor(self) -> int:
        """Offset in the text."""
        return self._origin + len(self._now.typed)

    @property
    def wanted(self) -> str:
        """The text that the person is about to write at the cursor."""
        return self._now.target[self._now.done :]

    @property
    def progress(self) -> tuple[int, str]:
        """The number of the current stretch, and the part of it that is written."""
        return self.current, self._now.target[: self._now.done]

    @property
    def _now(self) -> Stretch:
        return self.stretches[self.current]

    @property
    def _origin(self) -> int:
        """Offset of the stretch's beginning in the text."""
        origin = self.spans[self.current][0]
        for (start, end), stretch in zip(self.spans[: self.current], self.stretches, strict=False):
            origin += len(stretch.typed) + len(stretch.pending) - (end - start)
        return origin

    def gap(self) -> float:
        """Return the seconds until the next key."""
        dice = self._dice("gap")
        at_line_start = not self._now.line.strip() and not self._now.typo
        seconds = _log_normal(dice, MEAN_GAP, GAP_SPREAD)
        return seconds + (_log_normal(dice, LINE_PAUSE, PAUSE_SPREAD) if at_line_start and self._fresh_line() else 0.0)

    def is_right(self, suggestion: ShownSuggestion) -> bool:
        """Return true if the whole suggestion is what the person wants to write."""
        return self._gain(suggestion) >= MIN_GAIN

    def press(self, suggestion: ShownSuggestion | None) -> Key | None:
        """Press the next key, given the suggestion on the screen, and change the text; None when all is written."""
        if self._now.finished:
            if all(stretch.finished for stretch in self.stretches):
                return None
            return self._jump()
        if suggestion and not self._now.typo and (key := self._accept(suggestion)):
            return key
        if self._leaves():
            return self._jump()
        return self._type()

    def _type(self) -> Key:
        now = self._now
        wanted = self.wanted
        if now.typo:
            return self._correct()
        if not wanted or (now.blank and not wanted.startswith("\n")):
            return self._tidy()
        if now.blank:
            return self._enter()
        if now.pending and (key := self._type_over(now.pending, wanted)):
            return key
        if wanted[0] == "\n":
            return self._enter()
        if wanted[0] in " \t" and not now.line.strip():
            run = len(wanted) - len(wanted.lstrip(" \t"))
            return self._write(wanted[: min(run, len(self._step))])
        dice = self._dice("slip")
        mistypes = wanted[0].isalnum() and wanted[0].isascii() and dice.random() < TYPO_RATE
        if mistypes and now.corrected != now.done:
            now.typo_length = dice.choice((1, 1, 2, 3))
            return self._mistype(dice.choice(_LETTERS.replace(wanted[0].lower(), "")))
        return self._write(wanted[0], closer=closer_of(wanted[0], now.line, (now.pending or "\n")[0], self._language))

    def _type_over(self, pending: str, wanted: str) -> Key | None:
        """Use or delete the text that the editor inserted after the cursor; None if the next key leaves it alone."""
        blanks = pending[: len(pending) - len(pending.lstrip())]
        if blanks and wanted.startswith(blanks) and "\n" in blanks:
            return self._move_over(blanks)
        if blanks and pending.lstrip().startswith(wanted[0]) and wanted[0] in CLOSING:
            return self._cut_pending(len(blanks))
        if pending[0] == wanted[0] and wanted[0] in CLOSING and not self._now.typed.endswith("\\"):
            return self._write(wanted[0], over=1)
        if wanted[0] == "\n" and self._is_surplus(pending):
            return self._cut_pending(1)
        return None

    # The effects of keys.

    def _write(self, text: str, *, over: int = 0, closer: str = "") -> Key:
        at = self.cursor
        now = self._now
        now.done += len(text)
        now.pending = closer + now.pending[over:]
        return Key("type", at, at + over, text + closer, at + len(text))

    def _mistype(self, letter: str) -> Key:
        at = self.cursor
        self._now.typo += letter
        return Key("type", at, at, letter, at + 1)

    def _correct(self) -> Key:
        """Type on after a mistake, or delete it."""
        now = self._now
        ahead = self.wanted[len(now.typo) : len(now.typo) + 1]
        if len(now.typo) < now.typo_length and ahead.isalnum():
            return self._mistype(ahead)
        at = self.cursor
        now.typo, now.typo_length, now.corrected = now.typo[:-1], 0, now.done
        return Key("backspace", at - 1, at, "", at - 1)

    def _tidy(self) -> Key:
        """Delete a step of indentation, or the text that the editor inserted after the cursor."""
        now = self._now
        at = self.cursor
        if now.blank:
            width = min(len(now.blank), len(self._step))
            now.blank = now.blank[:-width]
            return Key("backspace", at - width, at, "", at - width)
        return self._cut_pending(len(now.pending))

    def _cut_pending(self, length: int) -> Key:
        at = self.cursor
        self._now.pending = self._now.pending[length:]
        return Key("backspace", at, at + length, "", at)

    def _move_over(self, blanks: str) -> Key:
        now = self._now
        now.done += len(blanks)
        now.pending = now.pending[len(blanks) :]
        return Key("move", self.cursor, self.cursor, "", self.cursor)

    def _enter(self) -> Key:
        now = self._now
        at = self.cursor
        indent, apart = line_break_after(now.line, now.pending, self._step, self._language)
        key = Key("type", at - len(now.blank), at, "\n" + indent + apart, at - len(now.blank) + 1 + len(indent))
        now.blank = ""
        now.done += 1
        now.pending = apart + now.pending
        following = self.wanted.partition("\n")[0]
        if following.strip():
            common = _common_length(indent, following)
            now.done += common
            now.blank = indent[common:]
        else:
            now.blank = indent
        return key

    def _jump(self) -> Key:
        self._now.left = self._now.done
        self.current = self._others[0]
        return Key("move", self.cursor, self.cursor, "", self.cursor)

    def _accept(self, suggestion: ShownSuggestion) -> Key | None:
        if suggestion.seconds < REACTION_TIME or self._dice("notice").random() >= LOOK_RATE:
            return None
        new = self._inserted(suggestion)
        if new is None:
            return None
        if self._gain(suggestion) >= MIN_GAIN:
            return self._take(suggestion.start, suggestion.end, suggestion.insert, "accept")
        first, line_break, _ = new.partition("\n")
        if line_break and len(first) >= MIN_GAIN and (self.wanted + "\n").startswith(first + "\n"):
            return self._take(self.cursor, self.cursor, first, "accept line")
        words = list(_right_words(first, self.wanted))
        if words and sum(map(len, words)) >= max(_MIN_WORDS_GAIN, 2 * len(words)):
            return self._take(self.cursor, self.cursor, words[0], "accept word")
        return None

    def _take(self, start: int, end: int, insert: str, kind: KeyKind) -> Key:
        now = self._now
        before = now.done
        full = now.typed + now.pending
        typed = full[: start - self._origin] + insert
        pending = full[end - self._origin :]
        now.blank = now.typo = ""
        now.done = len(typed)
        now.pending = pending
        return Key(kind, start, end, insert, start + len(insert), now.done - before)

    # Judgements of the person.

    def _inserted(self, suggestion: ShownSuggestion) -> str | None:
        """Return the text that a suggestion inserts at the cursor; None if it changes the text before it."""
        kept = self.text[suggestion.start : self.cursor]
        return suggestion.insert[len(kept) :] if suggestion.insert.startswith(kept) else None

    def _gain(self, suggestion: ShownSuggestion) -> int:
        """Return the characters of the target that a suggestion brings; 0 if any is wrong."""
        new = self._inserted(suggestion)
        right = new is not None and not self._now.blank and not self._now.typo and self.wanted.startswith(new)
        return len(new) if right and new else 0

    def _is_surplus(self, pending: str) -> bool:
        """Return true if the target does not need the first closing character after the cursor."""
        if pending[0] in QUOTES or pending[0].isspace():
            return pending[0] in QUOTES
        unmatched = scan(self.wanted, self._language).unmatched
        return not unmatched or self.wanted[unmatched[0]] != pending[0]

    def _leaves(self) -> bool:
        """Return true if the person moves to another stretch, at the end of a line."""
        now = self._now
        at_end = self.wanted.startswith("\n") and now.line.strip() and not (now.typo or now.pending)
        return bool(at_end and now.left != now.done and self._others and self._dice("jump").random() < JUMP_RATE)

    def _fresh_line(self) -> bool:
        """Return true if the line's first character is still to be typed."""
        return bool(self.wanted) and not self.wanted[0].isspace()

    @property
    def _others(self) -> list[int]:
        return [n for n, stretch in enumerate(self.stretches) if n != self.current and not stretch.finished]

    def _dice(self, what: str) -> random.Random:
        now = self._now
        place = f"{self.document.package}/{self.document.path}/{self.current}/{now.done}/{now.blank}/{now.typo}"
        return random.Random(f"{self.seed}/{what}/{place}")  # noqa: S311 - a person, not a secret


def begin(document: SourceDocument, characters: int, seed: int) -> TypingSession | None:
    """Return the typing of about `characters` of a document, in `STRETCHES` stretches of whole lines.

    None when the document is too short: at least as much text again must remain around the stretches.
    """
    text = document.text
    length = characters // STRETCHES
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    starts = [start for start in starts if text[start:].strip()]
    if len(text) < 2 * characters + 200 or len(starts) < 4 * STRETCHES:
        return None
    dice = random.Random(f"{seed}/stretches/{document.package}/{document.path}")  # noqa: S311 - a sample
    spans = _draw_spans(text, starts, length, dice)
    return TypingSession(document, spans, seed) if spans else None


def _draw_spans(text: str, starts: Sequence[int], length: int, dice: random.Random) -> list[tuple[int, int]]:
    """Draw a stretch of about `length` characters from each part of the text; empty if there is no place for one.

    `starts` are the offsets of lines.
    """
    spans: list[tuple[int, int]] = []
    part = len(text) // STRETCHES
    for number in range(STRETCHES):
        low = number * part + (200 if number == 0 else 0)
        usable = [start for start in starts if low <= start <= (number + 1) * part - length - 100]
        if not usable:
            return []
        start = dice.choice(usable)
        end = text.find("\n", start + length)
        if end < 0 or not text[start:end].strip() or text[start] == "\n":
            start = next((at for at in usable if at >= start and text[at] != "\n"), start)
            end = text.find("\n", start + length)
        end = len(text.rstrip()) if end < 0 else end
        if spans and start <= spans[-1][1]:
            return []
        spans.append((start, end))
    return spans


def keys_without(session: TypingSession) -> int:
    """Return the number of keys that the same text takes without suggestions."""
    alone = TypingSession(session.document, session.spans, session.seed)
    return sum(1 for _ in iter(lambda: alone.press(None), None))


def _right_words(suggested: str, wanted: str) -> Iterator[str]:
    """Yield the first words of a suggestion, as long as they are whole words of the wanted text."""
    at = 0
    for match in _WORD.finditer(suggested):
        word = match.group()
        cut = wanted[at + len(word) : at + len(word) + 1]
        if match.start() != at or not wanted.startswith(word, at) or (word[-1:].isalnum() and cut.isalnum()):
            return
        yield word
        at = match.end()


def _common_length(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _log_normal(dice: random.Random, mean: float, spread: float) -> float:
    """Draw from a log-normal distribution with this mean, whose logarithm has this standard deviation."""
    return dice.lognormvariate(math.log(mean) - spread**2 / 2, spread)
