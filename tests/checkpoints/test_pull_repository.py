"""Pull any repository of a supported kind from a local hub, friendly or hostile."""

from __future__ import annotations

from tests import needs

needs.extra("export")

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import psutil
import pytest

from codegen_lsp.checkpoints import offer as offer_module
from codegen_lsp.checkpoints.pull import find_offer, pull, want
from codegen_lsp.checkpoints.store import find, installed
from codegen_lsp.errors import CodegenError, ConversionError, DownloadError, ModelError
from tests.checkpoints.gguf_source.gguf_files import write_gguf
from tests.checkpoints.local_hub import CHUNK, COMMIT, Hub

REPOSITORY = "acme/tiny-coder"
WEIGHTS = (".safetensors", ".bin", ".gguf")

Repository = Callable[..., Path]


@pytest.fixture
def repository(hub: Hub, make_checkpoint: Any, store: Path) -> Repository:
    """Publish a small checkpoint: `repository(family, name="acme/…", form=…, card=…, config=…)` returns its folder."""

    def publish(
        family: str = "qwen2", name: str = REPOSITORY, *, card: str | None = "license: apache-2.0", **options: Any
    ) -> Path:
        folder: Path = make_checkpoint(family, name=name.replace("/", "--"), **options)
        (folder / "README.md").unlink()
        if card is not None:
            (folder / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
        hub.repositories[name] = folder
        return folder

    return publish


@pytest.fixture
def gguf_repository(hub: Hub, small: SimpleNamespace, small_tokenizers: Any, tmp_path: Path, store: Path) -> Repository:
    """Publish GGUF files: `gguf_repository({"a.Q8_0.gguf": "Q8_0"})` returns their folder."""

    def publish(files: dict[str, str], name: str = REPOSITORY, family: str = "qwen2", **options: Any) -> Path:
        folder = tmp_path / name.replace("/", "--")
        folder.mkdir()
        shape = small.OTHER_SHAPES[family]
        for file, type in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            write_gguf(folder / file, shape, small.random_state(shape), small_tokenizers[family], type, **options)
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# GGUF files\n")
        hub.repositories[name] = folder
        return folder

    return publish


def fetched_weights(hub: Hub) -> list[str]:
    return sorted(name for name in hub.fetched() if name.endswith(WEIGHTS))


def refusal(hub: Hub, name: str = REPOSITORY, **options: Any) -> CodegenError:
    """Pull a repository that is refused; return the error, after checking that no weights were fetched or kept."""
    with pytest.raises(CodegenError) as caught:
        pull(name, endpoint=hub.url, accept_license=True, **options)
    assert fetched_weights(hub) == []
    assert installed() == []
    assert caught.value.advice
    return caught.value


@pytest.mark.parametrize(
    ("family", "form"),
    [("qwen2", "sharded-safetensors"), ("deepseek", "bin"), ("granite", "safetensors"), ("wide heads", "sharded-bin")],
)
def test_a_repository_of_each_form(family: str, form: str, hub: Hub, repository: Repository, store: Path) -> None:
    repository(family, form=form)
    build = pull(REPOSITORY, endpoint=hub.url)
    assert (build.name, build.path) == ("tiny-coder", store / "tiny-coder")
    assert build.info.source == f"{REPOSITORY}@{COMMIT}"
    assert build.info.license == "apache-2.0"
    assert build.info.verification is not None
    assert find("Tiny-Coder").path == build.path
    assert list((store / ".downloads").iterdir()) == []
    assert len(fetched_weights(hub)) == (2 if "sharded" in form else 1)


@pytest.mark.parametrize(
    "name", [f"https://huggingface.co/{REPOSITORY}", f"huggingface.co/{REPOSITORY}/", f"hf.co/{REPOSITORY}"]
)
def test_the_address_of_a_repository(name: str) -> None:
    assert want(name).repositories == (REPOSITORY,)


def test_a_checkpoint_of_the_catalogue_by_its_repository() -> None:
    entry = want("Qwen/Qwen2.5-Coder-0.5B").entry
    assert entry is not None
    assert entry.name == "qwen2.5-coder-0.5B"
    assert want("Qwen/Qwen2.5-Coder-0.5B", build_name="mine").entry is None


@pytest.mark.parametrize(
    "name", ["acme", "a/b/c", "../x", "acme/..", "acme/x/../../y", "-a/b", "acme/a--b", "a b/c", "/x"]
)
def test_names_that_are_no_repository(name: str) -> None:
    with pytest.raises(ModelError, match="no checkpoint called") as caught:
        want(name)
    assert "ORG/NAME" in caught.value.advice


@pytest.mark.parametrize("revision", ["../x", "a b", "-x", "x\n", "?a=b", "a" * 300])
def test_revisions_that_are_none(revision: str) -> None:
    with pytest.raises(ModelError, match="can't be a revision"):
        want(REPOSITORY, revision=revision)


def test_a_branch_is_resolved_to_its_commit(hub: Hub, repository: Repository) -> None:
    repository()
    hub.unknown_revisions.add("v9")
    assert pull(REPOSITORY, endpoint=hub.url, revision="v1.0").info.source == f"{REPOSITORY}@{COMMIT}"
    assert {path for _, path, _ in hub.requests if "/revision/" in path} == {f"/api/models/{REPOSITORY}/revision/v1.0"}
    with pytest.raises(DownloadError, match="no such revision"):
        pull(REPOSITORY, endpoint=hub.url, revision="v9")
    with pytest.raises(DownloadError, match="not the commit that was asked for"):
        pull(REPOSITORY, endpoint=hub.url, revision="f" * 40)


# What is known before the weights


def test_an_offer_is_made_without_the_weights(hub: Hub, repository: Repository, small: SimpleNamespace) -> None:
    folder = repository("deepseek", card="license: other\nlicense_name: deepseek-license\nlicense_link: LICENSE")
    offer = find_offer(want(REPOSITORY), endpoint=hub.url)
    assert offer.architecture == small.OTHER_SHAPES["deepseek"]
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert offer.download_bytes == sum(sizes)
    assert (offer.license.name, offer.license.needs_consent) == ("other (deepseek-license)", True)
    assert offer.license.address == f"https://huggingface.co/{REPOSITORY}"
    assert fetched_weights(hub) == []


@pytest.mark.parametrize(
    ("card", "shown"),
    [
        ("license: openrail", "openrail"),
        ("license: other\nlicense_name: my-terms", "other (my-terms)"),
        ("license: other\nlicense_name: mit", "other (mit)"),
        ("license: cc-by-nc-4.0", "cc-by-nc-4.0"),
        ('license: "[red]\\u001b[2Jmit"', "[red][2Jmit"),
        ("license: [mit, gpl]", "unknown"),
        ("tags: [code]", "unknown"),
        ("license: {", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_licence_that_is_not_plainly_permissive_needs_consent(
    card: str | None, shown: str, hub: Hub, repository: Repository
) -> None:
    repository(card=card)
    with pytest.raises(DownloadError, match="needs your consent") as caught:
        pull(REPOSITORY, endpoint=hub.url)
    assert f"({shown})" in caught.value.message
    assert f"https://huggingface.co/{REPOSITORY}" in caught.value.advice
    assert fetched_weights(hub) == []
    assert pull(REPOSITORY, endpoint=hub.url, accept_license=True).info.license == shown


@pytest.mark.parametrize("license", ["mit", "Apache-2.0", "bsd-3-clause", "unlicense"])
def test_a_permissive_licence_needs_no_consent(license: str, hub: Hub, repository: Repository) -> None:
    repository(card=f"license: {license}")
    assert not find_offer(want(REPOSITORY), endpoint=hub.url).license.needs_consent


def test_a_gated_repository_is_explained(hub: Hub, repository: Repository) -> None:
    repository()
    hub.gated.add(REPOSITORY)
    error = refusal(hub)
    assert "gated" in error.message
    assert f"https://huggingface.co/{REPOSITORY}" in error.advice
    assert "HF_TOKEN" in error.advice


def test_a_repository_that_does_not_exist(hub: Hub, store: Path) -> None:
    error = refusal(hub)
    assert "acme/tiny-coder is not on" in error.message
    assert "Check the name" in error.advice


# Models that can't be used: refused with the reason, before any weights


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mamba"}, "architecture 'mamba'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4}}, "dynamic"),
        ({"hidden_act": "relu"}, "relu"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantized by awq"),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, "does not generate text"),
        ({"tie_word_embeddings": "false"}, "true or false"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"hidden_size": 1 << 40}, "hidden_size"),
        ({"vocab_size": 1.5}, "vocab_size"),
        ({"vocab_size": True}, "vocab_size"),
        ({"intermediate_size": "x"}, "intermediate_size"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"rope_scaling": "linear"}, "rope_scaling"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"num_attention_heads": 7}, "7"),
        ({"hidden_size": 1 << 19, "intermediate_size": 1 << 20, "num_hidden_layers": 1000}, "MB"),
        ({"num_hidden_layers": 40}, "which can't be the"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_that_is_refused(config: dict[str, Any], reason: str, hub: Hub, repository: Repository) -> None:
    repository(config=config)
    error = refusal(hub)
    assert reason in error.message
    assert list((find_store() / ".downloads").glob("*")) == []
    assert str(find_store()) not in error.message


def find_store() -> Path:
    return Path(os.environ["CODEGEN_LSP_MODELS"])


def test_code_of_a_repository_is_named_and_not_run(hub: Hub, repository: Repository) -> None:
    own = {"auto_map": {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}}
    folder = repository(config={**own, "model_type": "own"})
    (folder / "modeling_own.py").write_text("raise SystemExit('remote code ran')\n")
    error = refusal(hub)
    assert "no code of a repository is ever run" in error.message
    assert "remote.url" in error.advice
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    assert pull(REPOSITORY, endpoint=hub.url).name == "tiny-coder"
    assert not any(name.endswith(".py") for name in hub.fetched())


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"adapter_config.json": "{}", "adapter_model.safetensors": "x"}, "holds an adapter"),
        ({"model.onnx": "x"}, "they are for ONNX"),
        ({"tf_model.h5": "x", "flax_model.msgpack": "x"}, "TensorFlow and Flax"),
        ({"data.csv": "x"}, "has no weights"),
        ({"a-00001-of-00002.gguf": "x", "a-00002-of-00002.gguf": "x"}, "in several parts only"),
        ({"a.Q8_0.gguf": "x", "b.Q8_0.gguf": "x"}, "leaves open which GGUF file"),
        ({"a.gguf": "x", "b.gguf": "x"}, "leaves open which GGUF file"),
        ({"mmproj-f16.gguf": "x"}, "has no weights"),
        ({"model-00001-of-00002.safetensors": "x"}, "has no weights"),
    ],
)
def test_a_repository_without_weights_to_use(
    files: dict[str, str], reason: str, hub: Hub, repository: Repository
) -> None:
    folder = repository()
    (folder / "model.safetensors").unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    assert reason in refusal(hub).message


# Hostile repositories and hubs


@pytest.mark.parametrize(
    "name",
    ["../../.bashrc", "/etc/passwd", "a/../../b.gguf", "..\\x", "a//b", "./config.json", "x\x1b[2J", "", 7, None],
)
def test_a_name_that_leaves_the_repository(name: object, hub: Hub, repository: Repository, tmp_path: Path) -> None:
    repository()
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    hub.listed = lambda answer: answer["siblings"].append({"rfilename": name, "size": 3})
    error = refusal(hub)
    assert "does not answer like a Hugging Face Hub" in error.message
    assert "\x1b" not in error.message
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("size", [-1, 1.5, "many", True, []])
def test_a_size_that_is_none(size: object, hub: Hub, repository: Repository) -> None:
    repository()
    hub.listed = lambda answer: answer["siblings"][0].update(size=size)
    assert "states the size" in refusal(hub).message


def test_a_size_that_is_not_that_of_the_file(hub: Hub, repository: Repository) -> None:
    folder = repository()
    smaller = (folder / "config.json").stat().st_size - 1

    def lie(answer: dict[str, Any]) -> None:
        next(file for file in answer["siblings"] if file["rfilename"] == "config.json")["size"] = smaller

    hub.listed = lie
    assert f"states {smaller} bytes of config.json" in refusal(hub).message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "README.md", "LICENSE", "tokenizer_config.json"])
def test_a_small_file_of_absurd_size(name: str, hub: Hub, repository: Repository) -> None:
    repository()

    def inflate(answer: dict[str, Any]) -> None:
        next(file for file in answer["siblings"] if file["rfilename"] == name)["size"] = 1 << 40

    hub.listed = inflate
    error = refusal(hub)
    assert f"{name} of {REPOSITORY} has 1,099,512 MB" in error.message
    assert hub.fetched() == set()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_body_that_never_ends(name: str, hub: Hub, repository: Repository, store: Path) -> None:
    folder = repository()
    hub.endless.add(name)
    size = (folder / name).stat().st_size
    with pytest.raises(DownloadError, match=f"{name} is longer than the {size} bytes"):
        pull(REPOSITORY, endpoint=hub.url)
    assert installed() == []
    assert sum(path.stat().st_size for path in store.rglob("*") if path.is_file()) < 100 * CHUNK
    hub.endless.clear()
    assert pull(REPOSITORY, endpoint=hub.url).name == "tiny-coder"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>Please log in</html>", "can't be read"),
        (b"[1]", "holds no JSON object"),
        (b'"x"', "holds no JSON object"),
        (b"../other/config.json", "can't be read"),  # the content of a symbolic link in git
        (b"[" * 100_000, "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "can't be read"),
        (b"", "can't be read"),
        (b"{}", "architecture None"),
    ],
    ids=range(9),
)
def test_a_config_that_is_no_config(content: bytes, reason: str, hub: Hub, repository: Repository) -> None:
    folder = repository()
    (folder / "config.json").write_bytes(content)
    error = refusal(hub)
    assert reason in error.message
    assert "Fetch" not in error.advice


def test_a_symbolic_link_is_a_file_that_holds_its_target(hub: Hub, repository: Repository, store: Path) -> None:
    """As git has it, and the hub sends it: nothing is linked here."""
    folder = repository()
    (folder / "LICENSE").write_text("../../../../etc/passwd")
    build = pull(REPOSITORY, endpoint=hub.url)
    assert (build.path / "LICENSE").read_text() == "../../../../etc/passwd"
    assert not any(path.is_symlink() for path in store.rglob("*"))


@pytest.mark.parametrize(
    ("shard", "reason"),
    [
        ("../../model-00001-of-00002.safetensors", "is not a file of this folder"),
        ("model-00007-of-00002.safetensors", "lacks model-00007"),
        ("tokenizer.json", "lacks tokenizer.json"),
        (7, "is not a file of this folder"),
    ],
)
def test_an_index_that_names_other_files(shard: object, reason: str, hub: Hub, repository: Repository) -> None:
    folder = repository(form="sharded-safetensors")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = shard
    path.write_text(json.dumps(index))
    assert reason in refusal(hub).message


def test_a_pickle_that_would_run_code(hub: Hub, repository: Repository, tmp_path: Path) -> None:
    folder = repository("deepseek", form="bin")
    size = (folder / "pytorch_model.bin").stat().st_size
    text = f"cos\nsystem\n(S'touch {tmp_path}/ran'\ntR.".encode()
    (folder / "pytorch_model.bin").write_bytes(text + b" " * (size - len(text)))
    with pytest.raises(ConversionError, match="would run code"):
        pull(REPOSITORY, endpoint=hub.url)
    assert not (tmp_path / "ran").exists()
    assert installed() == []


def test_a_deep_answer_of_the_hub(hub: Hub, store: Path) -> None:
    hub.page = b'{"siblings":' + b"[" * 200_000
    assert "does not answer like" in refusal(hub).message


# GGUF


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ({"a.gguf": "F16"}, "a.gguf"),
        ({"a.F16.gguf": "F16", "a.Q8_0.gguf": "F16"}, "a.Q8_0.gguf"),
        ({"a-f32.gguf": "F16", "a-bf16.gguf": "F16", "mmproj-f16.gguf": "F16"}, "a-bf16.gguf"),
        ({"a.q8_0.v2.gguf": "F16", "a.Q4_K_M.gguf": "F16"}, "a.q8_0.v2.gguf"),
        ({"parts/a-Q8_0-00001-of-00002.gguf": "F16", "parts/a-F16.gguf": "F16"}, "parts/a-F16.gguf"),
    ],
)
def test_the_choice_among_gguf_files(
    files: dict[str, str], taken: str, hub: Hub, gguf_repository: Repository, small: SimpleNamespace
) -> None:
    gguf_repository(files)
    offer = find_offer(want(REPOSITORY), endpoint=hub.url)
    assert offer.selection.weights[0].name == taken
    assert f"{taken} is taken" in offer.selection.note
    epsilon = pytest.approx(offer.architecture.epsilon)  # a file has float32
    assert attrs.evolve(offer.architecture, epsilon=epsilon) == small.OTHER_SHAPES["qwen2"]


def test_a_gguf_repository_becomes_a_build(hub: Hub, gguf_repository: Repository, store: Path) -> None:
    gguf_repository({"a.F16.gguf": "F16"})
    build = pull(REPOSITORY, endpoint=hub.url)
    assert (build.name, build.info.license) == ("tiny-coder", "mit")
    assert build.info.source == f"{REPOSITORY}@{COMMIT}"
    assert "GGUF files" in (build.path / "README.md").read_text()
    assert list((store / ".downloads").iterdir()) == []


def test_few_bits_are_said_to_be_few(hub: Hub, gguf_repository: Repository) -> None:
    gguf_repository({"a.Q4_0.gguf": "F16", "a.Q2_K.gguf": "F16"})
    note = find_offer(want(REPOSITORY), endpoint=hub.url).selection.note
    assert "rounded to Q4_0" in note
    assert "prefer a file in Q8_0 or F16" in note


def test_a_gguf_file_that_the_user_names(hub: Hub, gguf_repository: Repository, repository: Repository) -> None:
    folder = gguf_repository({"b.F16.gguf": "F16", "sub/a.F16.gguf": "F16"})
    selection = find_offer(want(REPOSITORY, file="a.F16.gguf"), endpoint=hub.url).selection
    assert selection.weights[0].name == "sub/a.F16.gguf"
    hub.requests.clear()
    for wrong in ("c.gguf", "../a.F16.gguf", "README.md"):
        assert f"has no GGUF file {wrong!r}" in refusal(hub, file=wrong).message
    both = repository(name="acme/both")
    shutil.copyfile(folder / "b.F16.gguf", both / "b.F16.gguf")
    assert find_offer(want("acme/both"), endpoint=hub.url).selection.form == "safetensors"
    assert find_offer(want("acme/both", file="b.F16.gguf"), endpoint=hub.url).selection.form == "gguf"


def test_only_the_beginning_of_a_gguf_file_is_fetched_at_first(
    hub: Hub, gguf_repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gguf_repository({"a.F16.gguf": "F16"})
    size = (folder / "a.F16.gguf").stat().st_size
    monkeypatch.setattr(offer_module, "HEADER_BYTES", (100, 2 * CHUNK, 1 << 28))
    find_offer(want(REPOSITORY), endpoint=hub.url)
    ranges = [headers["range"] for headers in hub.gets("a.F16.gguf")]
    assert ranges == ["bytes=0-99", f"bytes=100-{2 * CHUNK - 1}"]
    hub.requests.clear()
    pull(REPOSITORY, endpoint=hub.url)
    assert [headers["range"] for headers in hub.gets("a.F16.gguf")] == [f"bytes={2 * CHUNK}-"]
    assert size > 3 * CHUNK


def test_a_server_without_ranges_sends_no_more_than_the_beginning(
    hub: Hub, gguf_repository: Repository, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    gguf_repository({"a.F16.gguf": "F16"})
    hub.ignore_range = True
    monkeypatch.setattr(offer_module, "HEADER_BYTES", (100, 2 * CHUNK))
    offer = find_offer(want(REPOSITORY), endpoint=hub.url)
    (partial,) = offer.folder.glob("*.partial")
    assert partial.stat().st_size == 2 * CHUNK
    hub.ignore_range = False
    assert pull(REPOSITORY, endpoint=hub.url).name == "tiny-coder"


def test_a_gguf_file_that_can_not_be_used(hub: Hub, gguf_repository: Repository) -> None:
    folder = gguf_repository({"a.gguf": "F16"}, extra={"general.architecture": "mamba"})
    with pytest.raises(ConversionError, match="architecture 'mamba'") as caught:
        pull(REPOSITORY, endpoint=hub.url)
    assert "remote.url" in caught.value.advice
    whole = (folder / "a.gguf").read_bytes()
    for content, reason in (
        (whole[:200], "is damaged or truncated"),
        (whole[:-1000], "is truncated: the tensor"),
        (b"<html>", "is not a GGUF file"),
        (b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 4096, "declares"),
    ):
        (folder / "a.gguf").write_bytes(content)
        with pytest.raises(ConversionError, match=reason) as caught:
            pull(REPOSITORY, endpoint=hub.url)
        assert "Fetch" not in caught.value.advice
        assert installed() == []


def test_a_header_that_has_no_end(hub: Hub, gguf_repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf_repository({"a.F16.gguf": "F16"})
    monkeypatch.setattr(offer_module, "HEADER_BYTES", (100, 200))
    with pytest.raises(DownloadError, match=r"header of a\.F16\.gguf has more than"):
        pull(REPOSITORY, endpoint=hub.url)


def test_the_extra_for_gguf_is_asked_for_before_it_is_read(hub: Hub, gguf_repository: Repository) -> None:
    gguf_repository({"a.F16.gguf": "F16"})

    def lacks(extra: str) -> None:
        raise ModelError(f"lacks {extra}")

    with pytest.raises(ModelError, match="lacks export"):
        find_offer(want(REPOSITORY), endpoint=hub.url, require=lacks)
    assert hub.fetched() == set()


# Names in the store


def test_the_name_of_a_checkpoint_of_the_catalogue_is_not_taken(hub: Hub, repository: Repository, store: Path) -> None:
    repository(name="acme/Qwen2.5-Coder-0.5B")
    build = pull("acme/Qwen2.5-Coder-0.5B", endpoint=hub.url)
    assert build.name == "acme-Qwen2.5-Coder-0.5B"
    assert build.info.license == "apache-2.0"


def test_the_name_of_another_installed_model_is_not_taken(hub: Hub, repository: Repository, store: Path) -> None:
    repository(name="acme/coder")
    repository("granite", name="other/Coder")
    assert pull("acme/coder", endpoint=hub.url).name == "coder"
    assert pull("acme/coder", endpoint=hub.url).name == "coder"
    assert pull("other/Coder", endpoint=hub.url).name == "other-Coder"
    assert {build.name: build.info.source.split("@")[0] for build in installed()} == {
        "coder": "acme/coder",
        "other-Coder": "other/Coder",
    }
    with pytest.raises(ModelError, match=r"made from acme/coder@"):
        pull("other/Coder", endpoint=hub.url, build_name="CODER")


def test_a_name_that_the_user_chooses(hub: Hub, repository: Repository, store: Path) -> None:
    repository()
    assert pull(REPOSITORY, endpoint=hub.url, build_name="mine").path == store / "mine"
    for wrong, reason in (("../x", "can't be the name"), ("codegen-350M-mono", "name of a checkpoint")):
        with pytest.raises(ModelError, match=reason):
            pull(REPOSITORY, endpoint=hub.url, build_name=wrong)


# The same guarantees as for the catalogue


def test_too_little_memory(hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000, total=1000))
    assert "GiB of memory to run" in refusal(hub).message


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_disk_that_is_too_small(
    form: str, hub: Hub, repository: Repository, gguf_repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "gguf":
        gguf_repository({"a.F16.gguf": "F16"})
    else:
        repository()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000, total=1, used=1))
    with pytest.raises(DownloadError, match="GiB of disk space are needed"):
        pull(REPOSITORY, endpoint=hub.url)
    assert installed() == []


def test_offline(hub: Hub, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "switched off" in refusal(hub).message
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_damage_on_the_way(name: str, hub: Hub, repository: Repository) -> None:
    repository()
    hub.damage.add(name)
    with pytest.raises(DownloadError, match=f"{name} arrived damaged"):
        pull(REPOSITORY, endpoint=hub.url)
    hub.damage.clear()
    assert pull(REPOSITORY, endpoint=hub.url).name == "tiny-coder"


@pytest.mark.slow
def test_a_killed_pull_is_resumed(hub: Hub, repository: Repository, store: Path) -> None:
    """A real process, killed while it downloads the weights."""
    repository()
    hub.stall.add("model.safetensors")
    code = f"from codegen_lsp.checkpoints.pull import pull; pull({REPOSITORY!r}, endpoint={hub.url!r})"
    environment = os.environ | {"HF_HUB_DOWNLOAD_TIMEOUT": "600", "CODEGEN_LSP_MODELS": str(store)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    try:
        hub.stalled.wait(120)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert installed() == []
    hub.stall.clear()
    hub.requests.clear()
    assert pull(REPOSITORY, endpoint=hub.url).name == "tiny-coder"
    assert hub.fetched() == {"model.safetensors"}
    assert {path.name for path in store.iterdir()} == {"tiny-coder", ".downloads"}
