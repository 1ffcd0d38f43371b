"""The suggestion service without an editor: a document, a played model, and a host that says what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from codegen_lsp.completion.snapshot import Refusal, Trigger
from codegen_lsp.errors import SupersededError, WorkerError
from codegen_lsp.inference.rpc.messages import RelatedFile, RelatedFiles
from codegen_lsp.settings import PromptSettings, Settings
from codegen_lsp.suggest.service import SuggestionService
from tests.completion.options import options
from tests.played_model import PlayedModel
from tests.suggest.conftest import CODE, URI, PlayedHost, ask, at


async def test_the_model_is_asked_once_while_its_answer_is_typed(
    service: SuggestionService, host: PlayedHost, model: PlayedModel
) -> None:
    service.opened(URI, 1, len(CODE))
    first = await ask(service, host, at(CODE))
    service.changed(URI, 2, CODE + "r", len(CODE) + 1, "r")
    second = await ask(service, host, at(CODE + "r", 2))
    assert [shown.insert for shown in first.suggestions + second.suggestions] == ["    return a + b"] * 2
    assert (first.source, second.source) == ("model", "cache")
    assert (list(first.numbers), list(second.numbers)) == ([1], [2])
    assert len(model.generated) == 1
    assert first.seconds > 0
    assert service.generated_tokens == 12
    service.close()


async def test_the_cache_answers_while_the_worker_is_restarted(service: SuggestionService, host: PlayedHost) -> None:
    service.opened(URI, 1, len(CODE))
    await ask(service, host, at(CODE))
    host.ready = False
    service.changed(URI, 2, CODE + "r", len(CODE) + 1, "r")
    cached = await ask(service, host, at(CODE + "r", 2))
    assert (cached.source, len(cached.suggestions)) == ("cache", 1)
    service.changed(URI, 3, CODE + "x", len(CODE) + 1, "x")
    refused = await ask(service, host, at(CODE + "x", 3))
    assert refused.refusal is not None
    assert refused.refusal.rule == "no_model"
    service.close()


async def test_a_known_refusal_is_the_answer(service: SuggestionService, host: PlayedHost, model: PlayedModel) -> None:
    service.opened(URI, 1, len(CODE))
    result = await ask(service, host, at(CODE), Refusal("excluded", "Excluded."))
    assert (result.suggestions, result.refusal, result.source) == ([], Refusal("excluded", "Excluded."), "none")
    assert model.generated == []
    service.close()


@pytest.mark.parametrize(("error", "rule"), [(SupersededError(), "superseded"), (WorkerError("w"), "no_model")])
async def test_errors_of_the_model_become_refusals(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, error: Exception, rule: str
) -> None:
    model.generate_error = error
    result = await service.complete(at(CODE), options(), host.handle.client)
    assert result.refusal is not None
    assert result.refusal.rule == rule


async def test_a_document_that_was_changed_meanwhile_shows_nothing(
    service: SuggestionService, host: PlayedHost, model: PlayedModel
) -> None:
    service.opened(URI, 2, len(CODE))
    result = await ask(service, host, at(CODE, 1))
    assert result.suggestions == []
    assert result.refusal is not None
    assert result.refusal.rule == "document_changed"
    service.close()


async def test_suggestions_have_the_offsets_of_the_document(service: SuggestionService, host: PlayedHost) -> None:
    prelude = "x = 1\n\n"
    service.opened(URI, 1, len(CODE))
    result = await ask(service, host, at(prelude + CODE, prelude=len(prelude)))
    assert (result.suggestions[0].start, result.suggestions[0].end) == (15, len(CODE))
    service.close()


async def test_without_a_host_nothing_is_scheduled(model: PlayedModel) -> None:
    service = SuggestionService()
    service.opened(URI, 1, len(CODE))
    service.changed(URI, 2, CODE, len(CODE), "u")
    assert not service.pause_timer.active
    result = await service.complete(at(CODE), options(), model)
    assert len(result.suggestions) == 1
    assert not service.prefetching
    service.close()


async def test_a_pause_warms_the_cache_with_the_document_as_it_is_then(
    service: SuggestionService, host: PlayedHost, model: PlayedModel
) -> None:
    host.document = at(CODE)
    service.opened(URI, 1, len(CODE))
    await service.pause_timer.fire()
    assert [params.prefix for params in model.warmed] == [CODE]
    service.close()


@pytest.mark.parametrize("reason", ["busy", "closed", "off"])
async def test_no_warming_when_it_would_be_in_the_way(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, reason: str
) -> None:
    host.document = None if reason == "closed" else at(CODE)
    host.busy = reason == "busy"
    host.settings = Settings(warm=reason != "off")
    service.opened(URI, 1, len(CODE))
    await service.pause_timer.fire()
    assert model.warmed == []
    service.close()


async def test_the_workspace_is_scanned_without_warming(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, tmp_path: Path
) -> None:
    (tmp_path / "names.py").write_text("class User: pass\n")
    uri = (tmp_path / "main.py").as_uri()
    host.settings, host.root = Settings(warm=False), tmp_path
    host.document = evolve(at("import names\n"), uri=uri)
    service.opened(uri, 1, 13)
    await service.pause_timer.fire()
    assert model.warmed == []
    assert service.scanner.context(uri).modules == {"names": {"User"}}
    service.close()


async def test_a_prefetch_answers_what_follows_the_suggestion(
    service: SuggestionService, host: PlayedHost, model: PlayedModel
) -> None:
    def answer(params: Any) -> list[str]:
        return ["rn a"] if params.prefix.endswith("retu") else [" + b"] if params.prefix.endswith("return a") else []

    model.answer = answer
    service.opened(URI, 1, len(CODE))
    await ask(service, host, at(CODE))
    assert service.prefetching
    await service.prefetch_timer.fire()
    assert [params.background for params in model.generated] == [False, True]
    accepted = CODE + "rn a"
    service.changed(URI, 2, accepted, len(accepted), "rn a")
    result = await ask(service, host, at(accepted, 2))
    assert (result.source, result.suggestions[0].insert) == ("cache", "    return a + b")
    service.close()


async def test_invoked_requests_prefetch_nothing(service: SuggestionService, host: PlayedHost) -> None:
    service.opened(URI, 1, len(CODE))
    result = await ask(service, host, at(CODE, trigger=Trigger.INVOKED))
    assert len(result.suggestions) == 1
    assert not service.prefetching
    service.close()


async def test_closing_a_document_forgets_it(service: SuggestionService, host: PlayedHost, model: PlayedModel) -> None:
    service.opened(URI, 1, len(CODE))
    await ask(service, host, at(CODE))
    service.closed(URI)
    assert not service.pause_timer.active
    assert not service.prefetching
    result = await ask(service, host, at(CODE))
    assert result.suggestions == []
    service.close()


NAMES = "def total(basket, prices):\n    return sum(prices[name] for name in basket)\n"
MORE_NAMES = "def basket_of(names, prices):\n    return {name: prices[name] for name in names}\n"
BASKET = "def cheapest(basket, prices):\n    names = sorted(prices[name] for name in basket)\n    retu"


@pytest.fixture
def reader(host: PlayedHost, tmp_path: Path) -> Path:
    """A workspace of a model that takes other files in its prompt; the folder."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "names.py").write_text(NAMES)
    assert host.handle.description is not None
    host.handle = evolve(
        host.handle, description=evolve(host.handle.description, takes_files=True, context_length=32_768)
    )
    host.root = root
    host.document = evolve(at(BASKET), uri=(root / "main.py").as_uri())
    return root


async def test_other_files_change_in_a_pause_and_never_while_the_user_types(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, reader: Path
) -> None:
    model.answer = lambda params: []
    document = host.document
    assert document is not None
    service.opened(document.uri, 1, len(BASKET))
    await service.pause_timer.fire()
    expected = RelatedFiles("shop", "main.py", [RelatedFile("names.py", NAMES)])
    assert [params.files for params in model.warmed] == [expected]
    (reader / "names.py").write_text(MORE_NAMES)
    typed = BASKET
    for version, letter in enumerate("rn ", 2):
        typed += letter
        service.files_changed()
        service.changed(document.uri, version, typed, len(typed), letter)
        host.document = evolve(document, text=typed, offset=len(typed), version=version)
        await ask(service, host, host.document)
        await service.scanner.finished(document.uri)
    assert [params.files for params in model.generated] == [expected] * 3
    assert all(NAMES not in params.snippets for params in model.generated)
    await service.pause_timer.fire()
    changed = RelatedFiles("shop", "main.py", [RelatedFile("names.py", MORE_NAMES)])
    assert model.warmed[-1].files == changed
    await service.pause_timer.fire()
    assert [params.files for params in model.warmed] == [expected, changed]  # nothing new, so it is not read again
    service.close()


async def test_the_first_prompt_has_the_files_that_are_known_by_then(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, reader: Path
) -> None:
    document = host.document
    assert document is not None
    host.settings = Settings(warm=False)
    service.opened(document.uri, 1, len(BASKET))
    await service.pause_timer.fire()
    assert model.warmed == []
    await ask(service, host, document)
    assert model.generated[0].files == RelatedFiles("shop", "main.py", [RelatedFile("names.py", NAMES)])
    service.close()


@pytest.mark.parametrize("why", ["off", "ablated", "not taken", "small", "slow"])
async def test_no_other_files_are_read_where_they_are_not_wanted(
    service: SuggestionService, host: PlayedHost, model: PlayedModel, reader: Path, why: str
) -> None:
    document = host.document
    assert document is not None
    assert host.handle.description is not None
    described = evolve(
        host.handle.description,
        takes_files=why != "not taken",
        small=why == "small",
        prefill_tokens_per_second=300.0 if why == "slow" else None,
    )
    host.handle = evolve(host.handle, description=described)
    wanted = "off" if why == "off" else "auto"
    host.settings = Settings(
        prompt=PromptSettings(related_files=wanted), ablate=("related_files",) if why == "ablated" else ()
    )
    service.opened(document.uri, 1, len(BASKET))
    await service.pause_timer.fire()
    await ask(service, host, document)
    assert [params.files for params in (*model.warmed, *model.generated)] == [None, None]
    service.close()
