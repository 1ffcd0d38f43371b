"""When the model is not asked at all: every rule that can refuse, and what it lets through."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp import completion
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.refusals import NEVER, UNASKED
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Trigger
from codegen_lsp.completion.stop_policy import LARGE_DOCUMENT
from codegen_lsp.inference.rpc.messages import Candidate
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.workspace.secrets import holds_secrets, is_commit_message
from tests.completion.options import options as make_options


def asked(
    text: str = "x = ",
    *,
    language: str = "python",
    uri: str = "file:///project/a.py",
    trigger: Trigger = Trigger.AUTOMATIC,
    options: Options | None = None,
) -> Plan | Refusal:
    return plan(Snapshot(uri, 1, language, text, len(text), trigger), options or make_options())


def rule_of(outcome: Plan | Refusal) -> str | None:
    return outcome.rule if isinstance(outcome, Refusal) else None


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/me/project/.env",
        "file:///home/me/project/.env.local",
        "file:///home/me/project/prod.env",
        "file:///home/me/.ssh/config",
        "file:///home/me/.ssh/id_ed25519",
        "file:///home/me/keys/ID_RSA",
        "file:///home/me/server.pem",
        "file:///home/me/server.KEY",
        "file:///home/me/store.p12",
        "file:///home/me/.aws/credentials",
        "file:///home/me/.gnupg/gpg.conf",
        "file:///home/me/.netrc",
        "file:///home/me/.npmrc",
        "file:///home/me/.pypirc",
        "file:///home/me/.git-credentials",
        "file:///home/me/.docker/config.json",
        "file:///home/me/app/secrets.yaml",
        "file:///home/me/app/credentials.json",
        "file:///home/me/app/terraform.tfvars",
        "file:///home/me/app/client_secret_1.apps.json",
        "file:///home/me/.config/gcloud/application_default_credentials.json",
        "file:///home/me/app/service_account-1.json",
        "file:///home/me/app/serviceAccountKey.json",
        "file:///home/me/app/shop-firebase-adminsdk-x.json",
        "file:///home/me/kubeconfig.yaml",
        "file:///home/me/app/.yarnrc.yml",
        "file:///home/me/app/.dockerconfigjson",
        "file:///home/me/app/terraform.tfstate.backup",
        "file:///home/me/app/.vault_pass",
        "file:///home/me/app/group_vars/all/vault.yml",
        "file:///home/me/.s3cfg",
        "file:///home/me/.boto",
        "file:///home/me/.config/rclone/rclone.conf",
        "file:///home/me/.m2/settings.xml",
        "file:///home/me/app/server.pem.bak",
        "file:///home/me/app/.env~",
        "file:///home/me/app/token.txt",
        "file:///home/me/app/tokens.json",
        "file:///home/me/app/passwords.txt",
        "file:///home/me/.bash_history",
        "file:///home/me/app/wp-config.php",
        "file:///c%3A/Users/me/.ssh/id_rsa",
        "file:///home/me/a%20b/%2Eenv",
        "untitled:.env",
    ],
)
def test_secret_files_are_left_alone(uri: str) -> None:
    assert holds_secrets(uri)
    for trigger in Trigger:
        everything = make_options(languages=frozenset({"*"}))
        assert rule_of(asked(uri=uri, trigger=trigger, options=everything)) == "secret_file"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/me/project/environment.py",
        "file:///home/me/project/keyboard.py",
        "file:///home/me/project/monkey.py",
        "file:///home/me/project/google/auth/credentials.py",
        "file:///home/me/project/.github/tool.py",
        "file:///home/me/project/tokens.c",
        "file:///home/me/project/tokenizer.json",
        "file:///home/me/project/password_reset.py",
        "file:///home/me/project/.vscode/settings.xml",
        "untitled:Untitled-1",
        "",
    ],
)
def test_other_files_are_not_secret(uri: str) -> None:
    assert not holds_secrets(uri)
    assert rule_of(asked(uri=uri)) is None


@pytest.mark.parametrize(
    ("uri", "language"),
    [
        ("file:///project/.git/COMMIT_EDITMSG", "plaintext"),
        ("file:///project/.git/MERGE_MSG", "plaintext"),
        ("file:///project/.git/rebase-merge/git-rebase-todo", "plaintext"),
        ("file:///project/anything", "gitcommit"),
        ("file:///project/anything", "git-commit"),
        ("file:///project/anything", "gitrebase"),
    ],
)
def test_commit_messages_are_left_alone(uri: str, language: str) -> None:
    assert is_commit_message(uri, language)
    everything = make_options(languages=frozenset({"*", language}))
    for trigger in Trigger:
        assert rule_of(asked(uri=uri, language=language, trigger=trigger, options=everything)) == "commit_message"


def test_languages_of_codegen_are_on_and_others_by_setting() -> None:
    for language in ("python", "c", "cpp", "go", "java", "javascript", "javascriptreact"):
        assert rule_of(asked(language=language)) is None
    for language in ("typescript", "rust", "markdown", "plaintext", ""):
        assert rule_of(asked(language=language)) == "language"
        assert rule_of(asked(language=language, trigger=Trigger.INVOKED)) == "language"
        assert rule_of(asked(language=language, options=make_options(languages=frozenset({language})))) is None
        assert rule_of(asked(language=language, options=make_options(languages=frozenset({"*"})))) is None


def test_turned_off_is_off() -> None:
    for trigger in Trigger:
        assert rule_of(asked(trigger=trigger, options=make_options(enabled=False))) == "off"


def test_data_on_one_line() -> None:
    line = "x = [" + "1, " * 400
    assert rule_of(asked(line)) == "long_line"
    assert rule_of(asked(line, trigger=Trigger.INVOKED)) is None


def test_in_a_large_document_one_line_at_most() -> None:
    opener = "def f():"
    small, large = asked(opener), asked("x = 1\n" * (LARGE_DOCUMENT // 6) + opener)
    assert isinstance(small, Plan)
    assert isinstance(large, Plan)
    assert (small.stop.max_lines, large.stop.max_lines) == (make_options().max_lines, 1)
    assert large.stop.max_tokens == make_options().line_tokens


def test_how_many_candidates() -> None:
    by_itself, by_key = asked(), asked(trigger=Trigger.INVOKED)
    assert isinstance(by_itself, Plan)
    assert isinstance(by_key, Plan)
    assert (by_itself.candidates, by_key.candidates) == (1, make_options().candidates)


def test_parts_can_be_left_out() -> None:
    text = "def area(a, b):\n    return a * b\n\n\n" * 20
    snapshot = Snapshot("file:///project/a.py", 1, "python", text + "\nx = 1\n", len(text))
    whole = make_options(prefix_characters=200, infill=True, threshold=0.5)

    def planned(*parts: str) -> Plan:
        outcome = plan(snapshot, evolve(whole, ablate=frozenset(parts)))
        assert isinstance(outcome, Plan)
        return outcome

    assert planned().prefix.startswith("def area")
    assert planned("window").prefix == text[-200:]
    assert (planned().suffix, planned("infilling").suffix) == ("\n\nx = 1\n"[1:], "")
    assert (planned().stop.threshold, planned("threshold").stop.threshold) == (0.5, 0.0)
    assert planned().document is not None
    assert planned("correctness").document is None


def sure_of(*pieces: tuple[str, float]) -> Candidate:
    """An answer in tokens, each with its probability."""
    text, steps = "", []
    for piece, probability in pieces:
        text += piece
        steps.append((len(text), math.log(probability)))
    return Candidate(text, len(pieces), -1.0, "stop", steps)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([("1", 0.9), (" +", 0.9), (" 2", 0.9)], "1 + 2"),
        ([("abs", 0.9), ("(", 0.9), ("12", 0.2), (")", 0.9)], "abs("),
        ([("abs", 0.9), ("(", 0.9), ("1", 0.9), ("2", 0.2)], "abs("),
        ([("abs", 0.4), ("(", 0.9)], None),
        ([("a", 0.9), ("bs", 0.4), ("(", 0.9)], None),
        ([("abs", 0.9), (" if", 0.9), (" not", 0.9), (" abs", 0.1), (" else", 0.9), (" 1", 0.9)], "abs"),
        ([("abs", 0.9), (" +", 0.9), (" abs", 0.1)], "abs"),
        ([("abs", 0.9), (".", 0.9), ("x", 0.1)], "abs"),
        ([("not", 0.9), (" abs", 0.1)], None),
    ],
)
def test_it_is_shown_as_far_as_the_model_is_sure(pieces: list[tuple[str, float]], shown: str | None) -> None:
    answer = sure_of(*pieces)
    for trigger in Trigger:
        outcome = asked(trigger=trigger, options=make_options(threshold=0.5))
        assert isinstance(outcome, Plan)
        shaped = shape_all([answer], outcome)
        if trigger is Trigger.INVOKED:
            assert not isinstance(shaped, Refusal)
            closer = ")" if answer.text == "abs(12" else ""  # asked for, so no closer is missing
            assert shaped[0].insert == f"x = {answer.text}{closer}"
        elif isinstance(shaped, Refusal):
            assert shown is None
            assert shaped.rule == "unlikely"
        else:
            assert shaped[0].insert == f"x = {shown}"


def test_a_line_that_is_complete_costs_no_further_line() -> None:
    """Unasked, the model is stopped as soon as it breaks the line; on a blank line and when asked it may."""
    stops = [asked("x = 1"), asked("x = 1\n"), asked("x = 1", trigger=Trigger.INVOKED)]
    assert [outcome.stop.strings for outcome in stops if isinstance(outcome, Plan)] == [["\n"], [], []]


def test_every_refusal_has_a_test() -> None:
    """Each name that `explain` can show is expected somewhere: in a case, or in this module."""
    here = Path(__file__)
    code = "".join(module.read_text("utf-8") for module in Path(completion.__file__).parent.rglob("*.py"))
    cases = "".join(file.read_text("utf-8") for file in here.parent.glob("cases/*.txt"))
    named = set(re.findall(r'Refusal\(\s*"(\w+)"', code))
    expected = set(re.findall(r"^--- refused (\w+)$", cases, re.MULTILINE))
    expected |= set(re.findall(r'== "(\w+)"', here.read_text("utf-8")))
    assert len(named) > 15
    assert named - expected == set()


def test_every_rule_says_what_it_refuses() -> None:
    for rule in NEVER + UNASKED:
        assert rule.__doc__
        assert rule.__doc__.endswith(".")


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_in_the_table_can_be_completed(language: str) -> None:
    everything = make_options(languages=frozenset({"*"}))
    for text in ("x", "x {\n  ", "if (x) {", "# a\n", "// a\n", 'x = "'):
        assert isinstance(asked(text, language=language, options=everything), Plan)
