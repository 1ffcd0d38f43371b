"""The model card of an adapted model, made from its record."""

from __future__ import annotations

from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, Change
from codegen_lsp.inference.build import BuildInfo


def adaptation_card(name: str, base: BuildInfo, record: AdaptationRecord | None) -> str:
    """Return the card as Markdown; only its metadata while there is no record yet."""
    tags = "".join(f"- {language}\n" for language in [*base.languages, "code-completion", "codegen"])
    front = f"---\nlicense: {base.license}\ntags:\n{tags}---\n"
    if record is None:
        return front
    folders = "".join(f"| `{_shown(folder)}` | {commit or 'none'} |\n" for folder, commit in record.commits.items())
    rows = "".join(_row(figure, change) for figure, change in record.figures.items())
    again = f", refreshed {record.refreshes} times" if record.refreshes else ""
    part = (
        f"Of the change of the weights {100 * record.kept_change:.0f} % was kept, so that little general code was "
        "forgotten.\n\n"
        if record.kept_change < 1
        else ""
    )
    return f"""{front}
# {name}

`{record.base}`, trained further on the code of the folders below ({record.finished}{again}). It is for
these folders and for you: what it writes may repeat their code, so do not pass it on where you would not pass on them.

| folder | commit |
|---|---|
{folders}
{len(record.files):,} files, of which {len(record.held_out):,} were held out; {record.tokens:,} tokens in \
{record.minutes:g} minutes, of which a quarter was general code from the Python installation ({len(record.general)}
packages with permissive licences), so that it does not forget. Ignored files and files whose name suggests secrets
were not read; e-mail addresses, keys and passwords in the text were replaced. `adaptation.json` names every file.
{_adapters(record)}
{part}Bits per byte, int8 builds, before and after, on files that were not trained on:

| | before | after | change, 95 % interval | files |
|---|---|---|---|---|
{rows}
The weights have the licence of `{record.base}`: {base.license}.

    codegen-lsp models remove {name}

removes the model and everything that was kept for it. `codegen-lsp adapt --refresh` with the same folders goes on from
it with the files that have changed.
"""


def _shown(path: str) -> str:
    """Return a path as one line of UTF-8: line breaks and bytes that are no UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")


def _adapters(record: AdaptationRecord) -> str:
    if record.checkpoint is None:
        return ""
    return (
        "\nTrained were adapters (LoRA), which were then added to the weights of the checkpoint in "
        f"`{record.checkpoint}`. They\nare in `adapters/`, in peft's format.\n"
    )


def _row(name: str, change: Change) -> str:
    interval = f"{100 * change.change:+.2f} % ({100 * change.low:+.2f} to {100 * change.high:+.2f})"
    return f"| {name} | {change.before:.4f} | {change.after:.4f} | {interval} | {change.files} |\n"
