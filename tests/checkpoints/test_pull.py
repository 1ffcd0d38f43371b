"""Pull checkpoints of the catalogue from a local hub that can truncate, stall, refuse and damage."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import errno
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import psutil
import pytest

from codegen_lsp.checkpoints import catalogue
from codegen_lsp.checkpoints import hub as hub_module
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.catalogue import Checkpoint
from codegen_lsp.checkpoints.pull import pull
from codegen_lsp.checkpoints.store import find, installed
from codegen_lsp.errors import ConversionError, DownloadError, ModelError
from tests.checkpoints.local_hub import CHUNK, COMMIT, Hub

NAME = "codegen-tiny-mono"
REPOSITORY = "acme/codegen-tiny-mono"


@pytest.fixture
def entry(small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """The only entry of the catalogue, small enough to convert in a test."""
    shape: Architecture = small.SHAPES["codegen"]
    entry = Checkpoint(
        name=NAME,
        repository=REPOSITORY,
        family="codegen",
        variant="mono",
        good_for="lines of Python",
        license="MIT",
        needs_consent=False,
        languages=("python",),
        architecture=attrs.evolve(shape, layers=4),
        download_mb=1,
        memory_mb=1,
        aliases=("acme/codegen-tiny",),
    )
    monkeypatch.setattr(catalogue, "checkpoints", lambda: (entry,))
    return entry


@pytest.fixture
def repository(hub: Hub, entry: Checkpoint, make_checkpoint: Any) -> Path:
    folder: Path = make_checkpoint(shape=entry.architecture, form="bin")
    (folder / "modeling_codegen.py").write_text("raise SystemExit('remote code ran')\n")
    (folder / "training_args.bin").write_bytes(b"not needed")
    hub.repositories[REPOSITORY] = folder
    return folder


def nothing_installed(store: Path) -> bool:
    return installed() == [] and {path.name for path in store.iterdir()} <= {".downloads"}


def test_pull(hub: Hub, repository: Path, entry: Checkpoint, store: Path) -> None:
    seen: list[tuple[str, float]] = []
    build = pull(NAME, endpoint=hub.url, progress=lambda message, done: seen.append((message, done)))
    assert (build.name, build.path) == (NAME, store / NAME)
    assert find("TINY-mono").path == build.path
    assert build.info.source == f"{REPOSITORY}@{COMMIT}"
    assert (build.info.license, build.info.languages) == ("MIT", ["python"])
    assert build.info.verification is not None
    assert hub.fetched() == {
        *("config.json", "tokenizer.json", "tokenizer_config.json", "LICENSE", "README.md", "pytorch_model.bin")
    }
    assert {path.name for path in store.iterdir()} == {NAME, ".downloads"}
    assert list((store / ".downloads").iterdir()) == []
    fractions = [done for _, done in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert "downloading pytorch_model.bin" in dict(seen)


def test_pull_in_4_bits(hub: Hub, repository: Path, entry: Checkpoint, store: Path) -> None:
    """Only the 4-bit build is installed, by a name that says so."""
    seen: list[float] = []
    build = pull(NAME, endpoint=hub.url, group=32, progress=lambda message, done: seen.append(done))
    assert (build.name, build.info.name, build.info.bits) == (f"{NAME}-4bit", f"{NAME}-4bit", 4)
    assert [one.name for one in installed()] == [f"{NAME}-4bit"]
    assert build.info.source == f"{REPOSITORY}@{COMMIT}"
    assert build.info.int8_comparison is not None
    assert seen == sorted(seen)
    assert not (store / ".downloads").exists() or not list((store / ".downloads").iterdir())


def test_safetensors_are_preferred(hub: Hub, repository: Path, entry: Checkpoint, small: Any, store: Path) -> None:
    small.save_weights(repository, small.random_state(entry.architecture), "safetensors")
    pull(NAME, endpoint=hub.url)
    assert "model.safetensors" in hub.fetched()
    assert "pytorch_model.bin" not in hub.fetched()


@pytest.mark.parametrize("form", ["sharded-bin", "sharded-safetensors"])
def test_shards(form: str, hub: Hub, repository: Path, entry: Checkpoint, small: Any, store: Path) -> None:
    (repository / "pytorch_model.bin").unlink()
    small.save_weights(repository, small.random_state(entry.architecture), form)
    pull(NAME, endpoint=hub.url)
    assert len([name for name in hub.fetched() if "-of-00002" in name]) == 2


def test_a_body_that_breaks_off_is_resumed(hub: Hub, repository: Path, store: Path) -> None:
    hub.cut["pytorch_model.bin"] = [3 * CHUNK, CHUNK, 0, 2 * CHUNK]
    pull(NAME, endpoint=hub.url)
    ranges = [headers.get("range") for headers in hub.gets("pytorch_model.bin")]
    assert ranges == [None, f"bytes={3 * CHUNK}-", f"bytes={4 * CHUNK}-", f"bytes={4 * CHUNK}-", f"bytes={6 * CHUNK}-"]


def test_the_next_run_resumes_the_download(hub: Hub, repository: Path, store: Path) -> None:
    hub.cut["pytorch_model.bin"] = [5 * CHUNK] + [0] * 30
    with pytest.raises(DownloadError) as caught:
        pull(NAME, endpoint=hub.url)
    assert "what has arrived is kept" in caught.value.advice
    assert nothing_installed(store)
    hub.cut.clear()
    hub.requests.clear()
    pull(NAME, endpoint=hub.url)
    assert [headers.get("range") for headers in hub.gets("pytorch_model.bin")] == [f"bytes={5 * CHUNK}-"]
    assert hub.fetched() == {"pytorch_model.bin"}


def test_a_server_without_ranges_starts_again(hub: Hub, repository: Path, store: Path) -> None:
    hub.ignore_range = True
    hub.cut["pytorch_model.bin"] = [3 * CHUNK]
    assert pull(NAME, endpoint=hub.url).name == NAME


def test_a_stalled_server(hub: Hub, repository: Path, store: Path) -> None:
    hub.stall.add("pytorch_model.bin")
    with pytest.raises(DownloadError, match="stopped answering"):
        pull(NAME, endpoint=hub.url)
    assert nothing_installed(store)


def test_a_slow_server_is_waited_for(hub: Hub, repository: Path, store: Path) -> None:
    hub.slow.add("pytorch_model.bin")
    seen: list[float] = []
    pull(NAME, endpoint=hub.url, progress=lambda message, done: seen.append(done) if "pytorch" in message else None)
    assert len(seen) >= (repository / "pytorch_model.bin").stat().st_size // CHUNK


@pytest.mark.parametrize("where", ["/api/models/", "/resolve/"])
@pytest.mark.parametrize(
    ("status", "headers", "message", "advice"),
    [
        (401, {}, "refuses access", "HF_TOKEN"),
        (401, {"X-Error-Code": "GatedRepo"}, "refuses access", "hf auth login"),
        (403, {}, "refuses access", "HF_TOKEN"),
        (404, {}, "is not on", "HF_ENDPOINT"),
        (429, {"Retry-After": "120"}, "too many requests", "in 120 seconds"),
        (429, {}, "too many requests", "in a few minutes"),
        (500, {}, "fault of its own", "later"),
        (503, {}, "fault of its own", "later"),
    ],
)
def test_refusals(
    where: str,
    status: int,
    headers: dict[str, str],
    message: str,
    advice: str,
    hub: Hub,
    repository: Path,
    store: Path,
) -> None:
    hub.statuses[where] = (status, headers)
    with pytest.raises(DownloadError, match=message) as caught:
        pull(NAME, endpoint=hub.url)
    assert str(status) in caught.value.message
    assert advice in caught.value.advice
    assert nothing_installed(store)


def test_an_unknown_repository(hub: Hub, entry: Checkpoint, store: Path) -> None:
    with pytest.raises(DownloadError, match="is not on"):
        pull(NAME, endpoint=hub.url)


def test_the_repositorys_former_name(hub: Hub, repository: Path, store: Path) -> None:
    hub.repositories = {"acme/codegen-tiny": repository}
    assert pull(NAME, endpoint=hub.url).info.source.startswith("acme/codegen-tiny@")


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"[]", b"{}", b'"x"'])
def test_a_login_page_in_the_way(page: bytes, hub: Hub, entry: Checkpoint, store: Path) -> None:
    hub.page = page
    with pytest.raises(DownloadError, match=r"does not answer like|has no weights") as caught:
        pull(NAME, endpoint=hub.url)
    assert "HF_ENDPOINT" in caught.value.advice


def test_no_network(entry: Checkpoint, store: Path) -> None:
    with pytest.raises(DownloadError, match="can't be reached") as caught:
        pull(NAME, endpoint="http://127.0.0.1:9")
    assert "HF_ENDPOINT" in caught.value.advice


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline(name: str, hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(DownloadError, match="switched off") as caught:
        pull(NAME, endpoint=hub.url)
    assert "models convert" in caught.value.advice
    assert hub.requests == []


def test_a_mirror(hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set after huggingface_hub was imported, and with a trailing slash."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    assert pull(NAME).name == NAME


@pytest.mark.parametrize("file", ["pytorch_model.bin", "config.json"])
def test_damage_on_the_way(file: str, hub: Hub, repository: Path, store: Path) -> None:
    hub.damage.add(file)
    with pytest.raises(DownloadError, match=rf"{file} arrived damaged"):
        pull(NAME, endpoint=hub.url)
    assert nothing_installed(store)
    hub.damage.clear()
    assert pull(NAME, endpoint=hub.url).name == NAME


def test_damage_before_it_was_published(hub: Hub, repository: Path, store: Path) -> None:
    path = repository / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ConversionError, match="damaged or truncated"):
        pull(NAME, endpoint=hub.url)
    assert nothing_installed(store)


def test_an_interrupted_run_keeps_its_files(hub: Hub, repository: Path, store: Path) -> None:
    def interrupt(message: str, done: float) -> None:
        if message == "downloading pytorch_model.bin" and done > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(NAME, endpoint=hub.url, progress=interrupt)
    assert nothing_installed(store)
    hub.requests.clear()
    pull(NAME, endpoint=hub.url)
    assert hub.gets("pytorch_model.bin")[0]["range"].startswith("bytes=")


def test_a_disk_that_is_too_small(hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000, total=1, used=1))
    with pytest.raises(DownloadError, match="GiB of disk space are needed") as caught:
        pull(NAME, endpoint=hub.url)
    assert "CODEGEN_LSP_MODELS" in caught.value.advice
    assert "pytorch_model.bin" not in hub.fetched()


def test_a_disk_that_fills_up(hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: Any, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub_module._Counted, "write", write)
    with pytest.raises(DownloadError, match="disk is full") as caught:
        pull(NAME, endpoint=hub.url)
    assert "Make room" in caught.value.advice
    assert nothing_installed(store)


def test_a_folder_that_may_not_be_written(
    hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Any, data: bytes) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(hub_module._Counted, "write", write)
    with pytest.raises(DownloadError, match="can't be written"):
        pull(NAME, endpoint=hub.url)


@pytest.mark.parametrize(("free", "total", "message"), [(1 << 40, 1000, "to run"), (1000, 1 << 40, "to convert")])
def test_too_little_memory_is_reported_before_the_download(
    free: int, total: int, message: str, hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free, total=total))
    with pytest.raises(DownloadError, match=f"GiB of memory {message}") as caught:
        pull(NAME, endpoint=hub.url)
    assert "smaller" in caught.value.advice
    assert hub.requests == []


def test_a_licence_that_needs_consent(
    hub: Hub, repository: Path, entry: Checkpoint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = attrs.evolve(entry, needs_consent=True, license="research-only")
    monkeypatch.setattr(catalogue, "checkpoints", lambda: (asking,))
    with pytest.raises(DownloadError, match=r"consent.*research-only") as caught:
        pull(NAME, endpoint=hub.url)
    assert "--accept-license" in caught.value.advice
    assert hub.requests == []
    assert pull(NAME, endpoint=hub.url, accept_license=True).info.license == "research-only"


def test_a_token_is_sent_to_the_hub_only(hub: Hub, repository: Path, store: Path) -> None:
    """Large files are redirected to another host, as the hub does."""
    hub.cdn = True
    pull(NAME, endpoint=hub.url, token="hf_secret")
    assert hub.gets("pytorch_model.bin") != []
    for _, path, headers in hub.requests:
        assert (headers.get("authorization") == "Bearer hf_secret") == (not path.startswith("/cdn/")), path


def test_a_token_is_not_sent_unencrypted(
    hub: Hub, repository: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("http://hub.example", "http://127.0.0.1.evil.example", "ftp://localhost.evil.example"):
        assert not hub_module.sends_tokens_to(address)
    assert hub_module.sends_tokens_to("https://hub.example")
    monkeypatch.setattr(hub_module, "sends_tokens_to", lambda url: False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pull(NAME, endpoint=hub.url, token="hf_secret")
    assert not any("authorization" in headers for _, _, headers in hub.requests)


@pytest.mark.parametrize("commit", ["/../../../..", "../x", COMMIT + "/..", COMMIT.upper(), "main", "", None])
def test_a_commit_that_is_none_is_refused(
    hub: Hub, repository: Path, store: Path, tmp_path: Path, commit: str | None
) -> None:
    hub.commit = commit
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DownloadError, match="does not answer like"):
        pull(NAME, endpoint=hub.url)
    assert hub.fetched() == set()
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {path for path in before if path.is_file()}


@pytest.mark.parametrize("etag", ["abc123", "W/x", "0" * 63, ""])
def test_a_file_without_a_digest_is_refused(hub: Hub, repository: Path, store: Path, etag: str) -> None:
    hub.etag = etag
    with pytest.raises(DownloadError, match="does not state the digest"):
        pull(NAME, endpoint=hub.url)
    assert installed() == [] or NAME not in [build.name for build in installed()]


def test_a_pinned_checkpoint_is_fetched_as_it_was_pinned(
    hub: Hub, repository: Path, store: Path, entry: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = hashlib.sha256((repository / "pytorch_model.bin").read_bytes()).hexdigest()
    for revision, digest, error in (
        (COMMIT, "0" * 64, "arrived damaged"),
        ("f" * 40, right, "does not answer like"),
        (COMMIT, right, ""),
    ):
        pinned = attrs.evolve(entry, revision=revision, digests={"pytorch_model.bin": digest})
        monkeypatch.setattr(catalogue, "checkpoints", lambda pinned=pinned: (pinned,))
        if error:
            with pytest.raises(DownloadError, match=error):
                pull(NAME, endpoint=hub.url)
        else:
            assert pull(NAME, endpoint=hub.url).name == NAME


def test_a_repository_without_weights(hub: Hub, repository: Path, store: Path) -> None:
    (repository / "pytorch_model.bin").unlink()
    with pytest.raises(DownloadError, match="has no weights"):
        pull(NAME, endpoint=hub.url)


def test_an_unknown_name(entry: Checkpoint, store: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint called"):
        pull("codegen-900B")


def test_pulling_again_replaces(hub: Hub, repository: Path, store: Path) -> None:
    first = pull(NAME, endpoint=hub.url)
    assert pull(NAME, endpoint=hub.url).info.files == first.info.files
    assert {path.name for path in store.iterdir()} == {NAME, ".downloads"}


def test_another_architecture_than_the_catalogues(
    hub: Hub, repository: Path, entry: Checkpoint, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = attrs.evolve(entry, architecture=attrs.evolve(entry.architecture, layers=5))
    monkeypatch.setattr(catalogue, "checkpoints", lambda: (other,))
    with pytest.raises(ConversionError, match="layers 4 instead of 5"):
        pull(NAME, endpoint=hub.url)
    assert nothing_installed(store)


def test_a_borrowed_vocabulary(
    hub: Hub,
    small: SimpleNamespace,
    codegen_files: Path,
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CodeGen2.5's repository has weights and code, but no vocabulary."""
    shape = Architecture("llama", 1, 2, 16, 48, 8, 51200, 512, 1e-6)
    folder = tmp_path / "codegen25"
    folder.mkdir()
    small.save_weights(folder, small.random_state(shape), "bin")
    (folder / "config.json").write_text(json.dumps(small.config_of(shape)))
    (folder / "tokenization_codegen25.py").write_text("raise SystemExit('remote code ran')\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    lender = tmp_path / "lender"
    lender.mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        shutil.copyfile(codegen_files / name, lender / name)
    hub.repositories = {"acme/codegen25": folder, "acme/lender": lender}
    entry = Checkpoint(
        name="codegen25-tiny",
        repository="acme/codegen25",
        family="codegen25",
        variant="mono",
        good_for="lines of Python",
        license="Apache-2.0",
        needs_consent=False,
        languages=("python",),
        architecture=shape,
        download_mb=7,
        memory_mb=2,
        vocabulary_from="acme/lender",
    )
    monkeypatch.setattr(catalogue, "checkpoints", lambda: (entry,))
    build = pull("codegen25-tiny", endpoint=hub.url)
    assert (build.info.family, build.info.infill, build.info.infill_end) == ("codegen25", "mask", 50318)
    assert (build.info.end_of_text, build.info.vocabulary_size) == (50256, 51200)
    assert {"vocab.json", "merges.txt"} <= hub.fetched()
    assert not any(name.endswith(".py") for name in hub.fetched())
