"""`codegen-lsp remote`, and that what it confirms is what the language server asks for."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codegen_lsp.cli.remote import app
from codegen_lsp.lsp import remote_consent
from codegen_lsp.lsp.remote import UnconfirmedServerError, allow_command
from codegen_lsp.lsp.remote_consent import is_confirmed
from codegen_lsp.settings import RemoteSettings

URL = "https://team.example:8012"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_consent, "consent_file", lambda: tmp_path / "remote-servers.json")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "settings",
    [
        RemoteSettings(URL),
        RemoteSettings(URL, "~/the key", "/etc/ca.pem", True, "document+workspace"),
        RemoteSettings("http://localhost:8012", ca_file="; touch x"),
    ],
)
def test_the_command_of_the_message_confirms(settings: RemoteSettings) -> None:
    assert not is_confirmed(settings)
    assert allow_command(settings) in str(UnconfirmedServerError(settings))
    run(*shlex.split(allow_command(settings))[2:])
    assert is_confirmed(settings)


def test_listing_and_forgetting() -> None:
    assert "nothing is sent" in run("list")
    run("allow", URL, "--workspace")
    assert URL in run("list")
    assert json.loads(run("list", "--json"))[0]["send"] == "document+workspace"
    run("forget", URL)
    assert "nothing is sent" in run("list")
    with pytest.raises(Exception, match="is not confirmed"):
        run("forget", URL)


def test_an_address_that_could_not_be_used_is_not_confirmed() -> None:
    with pytest.raises(Exception, match="without encryption"):
        run("allow", "http://team.example")
    assert "nothing is sent" in run("list")
