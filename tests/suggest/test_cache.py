"""The cache of suggestions being typed through, against what a person would expect of it."""

from __future__ import annotations

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Selected, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import Candidate
from codegen_lsp.suggest.cache import LOOK_BACK, SuggestionCache
from tests.completion.options import options as make_options

OPTIONS = make_options(ablate=frozenset({"correctness"}))


def at(source: str, *, trigger: Trigger = Trigger.AUTOMATIC, language: str = "python", uri: str = "a.py") -> Snapshot:
    text = source.replace("│", "")
    return Snapshot(f"file:///{uri}", 1, language, text, source.index("│"), trigger)


def remember(cache: SuggestionCache, snapshot: Snapshot, *answers: str) -> list[Suggestion]:
    asked = plan(snapshot, OPTIONS)
    assert isinstance(asked, Plan), asked
    shown = shape_all([Candidate(text, 1, -float(rank), "stop") for rank, text in enumerate(answers)], asked)
    assert isinstance(shown, list), shown
    cache.keep(snapshot, shown, OPTIONS)
    return shown


def accepted(snapshot: Snapshot, suggestion: Suggestion) -> str:
    return snapshot.text[: suggestion.start] + suggestion.insert + snapshot.text[suggestion.end :]


def typed(snapshot: Snapshot, text: str) -> Snapshot:
    """The document after typing `text` at the cursor."""
    before, after = snapshot.text[: snapshot.offset], snapshot.text[snapshot.offset :]
    return evolve(
        snapshot, text=before + text + after, offset=snapshot.offset + len(text), version=snapshot.version + 1
    )


def test_the_same_place_again() -> None:
    cache = SuggestionCache()
    shown = remember(cache, at("x = pr│\n"), "int(y)")
    assert cache.find(at("x = pr│\n"), OPTIONS) == shown


def test_typing_the_suggestion_shows_its_rest() -> None:
    cache = SuggestionCache()
    snapshot = at("x = pr│\n")
    remember(cache, snapshot, "int(y)")
    for typed_so_far in ["i", "in", "int", "int(", "int(y"]:
        now = typed(snapshot, typed_so_far)
        (found,) = cache.find(now, OPTIONS)
        assert accepted(now, found) == "x = print(y)\n"


def test_all_of_it_typed_is_a_miss() -> None:
    cache = SuggestionCache()
    snapshot = at("x = pr│\n")
    remember(cache, snapshot, "int(y)")
    assert cache.find(typed(snapshot, "int(y)"), OPTIONS) == []


def test_typing_something_else_is_a_miss() -> None:
    cache = SuggestionCache()
    snapshot = at("x = pr│\n")
    remember(cache, snapshot, "int(y)")
    assert cache.find(typed(snapshot, "o"), OPTIONS) == []
    assert cache.find(typed(snapshot, "into"), OPTIONS) == []


def test_deleting_typed_characters() -> None:
    cache = SuggestionCache()
    snapshot = at("x = pr│\n")
    shown = remember(cache, snapshot, "int(y)")
    cache.find(typed(snapshot, "int("), OPTIONS)
    assert cache.find(snapshot, OPTIONS) == shown


def test_a_bracket_that_the_editor_closes_while_typing() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), "int(y, z)")
    now = at("x = print(y│)\n")
    (found,) = cache.find(now, OPTIONS)
    assert accepted(now, found) == "x = print(y, z)\n"


def test_quotes_that_the_editor_closes_while_typing() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), 'int("yes")')
    now = at('x = print("y│")\n')
    (found,) = cache.find(now, OPTIONS)
    assert accepted(now, found) == 'x = print("yes")\n'


def test_a_brace_that_the_editor_moves_down() -> None:
    cache = SuggestionCache()
    remember(cache, at("if (x) {│\nnext();\n", language="javascript"), "\n    start();\n    stop();")
    now = at("if (x) {\n    │\n}\nnext();\n", language="javascript")
    (found,) = cache.find(now, OPTIONS)
    assert accepted(now, found) == "if (x) {\n    start();\n    stop();\n}\nnext();\n"


def test_accepting_line_by_line() -> None:
    cache = SuggestionCache()
    snapshot = at("def f(x):│\n\n\nf(1)\n")
    remember(cache, snapshot, "\n    y = x + 1\n    return y")
    now = typed(snapshot, "\n    y = x + 1")
    (found,) = cache.find(now, OPTIONS)
    assert accepted(now, found) == "def f(x):\n    y = x + 1\n    return y\n\n\nf(1)\n"


def test_accepting_a_line_in_a_document_with_crlf() -> None:
    cache = SuggestionCache()
    snapshot = at("def f(x):│\r\n\r\nf(1)\r\n")
    remember(cache, snapshot, "\n    y = x + 1\n    return y")
    (found,) = cache.find(typed(snapshot, "\r\n    y = x + 1\r\n    ret"), OPTIONS)
    assert found.insert == "    return y"


def test_a_long_suggestion_is_followed_beyond_the_look_back() -> None:
    cache = SuggestionCache()
    snapshot = at("def f():│\n")
    body = "".join(f"\n    name_{number} = {number}" for number in range(9))
    remember(cache, snapshot, body)
    assert len(body) > LOOK_BACK
    for length in range(0, len(body) - 1, 7):
        assert cache.find(typed(snapshot, body[:length]), OPTIONS), length


def test_an_edit_above_is_a_miss() -> None:
    cache = SuggestionCache()
    remember(cache, at("a = 1\nx = pr│\n"), "int(y)")
    assert cache.find(at("a = 2\nx = pr│\n"), OPTIONS) == []


def test_an_edit_below_is_a_miss() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\na = 1\n"), "int(y)")
    assert cache.find(at("x = pr│\na = 2\n"), OPTIONS) == []


def test_an_edit_far_away_is_not() -> None:
    cache = SuggestionCache()
    padding = "y = 2\n" * 1000
    remember(cache, at(f"a = 1\n{padding}x = pr│\n{padding}a = 1\n"), "int(y)")
    assert cache.find(at(f"a = 2\n{padding}x = pri│\n{padding}a = 2\n"), OPTIONS)


def test_code_after_the_cursor_belongs_to_the_place() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│ + 1\n", trigger=Trigger.INVOKED), "od(y)")
    assert cache.find(at("x = pro│ + 1\n"), OPTIONS)
    assert cache.find(at("x = pro│ + 2\n"), OPTIONS) == []


def test_another_document_is_another_place() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), "int(y)")
    assert cache.find(at("x = pr│\n", uri="b.py"), OPTIONS) == []


def test_one_suggestion_does_not_answer_a_request_for_several() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), "int(y)")
    assert cache.find(at("x = pr│\n", trigger=Trigger.INVOKED), OPTIONS) == []


def test_the_rests_of_several_suggestions() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n", trigger=Trigger.INVOKED), "int(y)", "od(y)", "int(z)")
    both = cache.find(at("x = pri│\n", trigger=Trigger.INVOKED), OPTIONS)
    assert [found.insert for found in both] == ["x = print(y)", "x = print(z)"]
    assert [found.insert for found in cache.find(at("x = pro│\n"), OPTIONS)] == ["x = prod(y)"]


def test_a_selected_entry_is_typed_through_as_well() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), "int(y)")
    now = evolve(at("x = pr│\n"), selected=Selected(4, 6, "print"))
    (found,) = cache.find(now, OPTIONS)
    assert (found.start, found.insert) == (4, "print(y)")


def test_nothing_from_a_document_turned_off_since() -> None:
    cache = SuggestionCache()
    remember(cache, at("x = pr│\n"), "int(y)")
    assert cache.find(at("x = pr│\n"), make_options(enabled=False)) == []
    assert cache.find(at("x = pr│\n"), make_options(languages=frozenset({"go"}))) == []


def test_the_least_recently_used_goes_first() -> None:
    cache = SuggestionCache(capacity=2)
    for name in ("a", "b"):
        remember(cache, at(f"{name} = pr│\n"), "int(y)")
    cache.find(at("a = pr│\n"), OPTIONS)
    remember(cache, at("c = pr│\n"), "int(y)")
    assert cache.find(at("a = pr│\n"), OPTIONS)
    assert cache.find(at("b = pr│\n"), OPTIONS) == []
    cache.clear()
    assert cache.find(at("a = pr│\n"), OPTIONS) == []


lines = st.sampled_from(["x = 1", "    y = f(x)", "", "# c", "        return [x]", 'z = "(s"', "if x:", "é = '😀'"])
documents = st.lists(lines, max_size=6).map("\n".join)
pieces = ["x", "foo", "(a)", "[i]", "{}", '"s"', ", ", ".", "\n    y", "\n", "\n\n    ", "\t", "é", "😀"]
answers = st.lists(st.sampled_from(pieces), min_size=1, max_size=12).map("".join)


@given(documents, documents, answers, st.sampled_from(["\n", "\r\n"]), st.data())
def test_typing_through_always_hits_and_straying_never_does(
    above: str, below: str, answer: str, line_end: str, data: st.DataObject
) -> None:
    """Compared with the simplest model of it: the rest of the text, as long as what was typed is its beginning."""
    source = f"a = 0\n{above}\ndef f():│\n{below}".replace("\n", line_end)
    snapshot = at(source)
    cache = SuggestionCache()
    asked = plan(snapshot, OPTIONS)
    assume(isinstance(asked, Plan))
    assert isinstance(asked, Plan)
    shown = shape_all([Candidate(answer, 1, 0.0, "stop")], asked)
    assume(isinstance(shown, list))
    assert isinstance(shown, list)
    cache.keep(snapshot, shown, OPTIONS)
    text = shown[0].insert[len("def f():") :]
    outcome = accepted(snapshot, shown[0])
    for length in range(len(text)):
        now = typed(snapshot, text[:length].replace("\n", line_end))
        (found,) = cache.find(now, OPTIONS)
        assert accepted(now, found).replace("\r\n", "\n") == outcome.replace("\r\n", "\n")
    length = data.draw(st.integers(0, len(text) - 1))
    stray = data.draw(st.sampled_from([character for character in "x(qé\n" if character != text[length]]))
    assert cache.find(typed(snapshot, (text[:length] + stray).replace("\n", line_end)), OPTIONS) == []
