"""A dialogue as a Jupyter notebook, format 4.5: https://nbformat.readthedocs.io/en/latest/format_description.html."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.running import TurnResult

PICTURE = "image/png"


def notebook_of(dialogue: Dialogue, results: Mapping[int, TurnResult]) -> dict[str, Any]:
    """Return the notebook of a dialogue: for each turn a cell with what was asked, and one with its code.

    `results` are what turns did, by index; of others there is the text that the dialogue keeps.
    """
    cells = [_code_cell("head", dialogue.head.strip("\n"), None, [])] if dialogue.head.strip() else []
    for number, turn in enumerate(dialogue.turns):
        count = number + 1
        cells.append({"id": f"step-{count}", "cell_type": "markdown", "metadata": {}, "source": turn.request})
        cells.append(_code_cell(f"code-{count}", turn.code, count, _outputs(turn, results.get(number), count)))
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "cells": cells,
    }


def _code_cell(name: str, code: str, count: int | None, outputs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": name,
        "cell_type": "code",
        "metadata": {},
        "source": code,
        "execution_count": count if outputs else None,
        "outputs": outputs,
    }


def _outputs(turn: DialogueTurn, result: TurnResult | None, count: int) -> list[dict[str, Any]]:
    if result is None:
        return [_stream(turn.output + "\n")] if turn.output else []
    outputs = [_stream(result.output)] if result.output else []
    for name, content in result.files.items():
        if name.endswith(".png"):
            data = {PICTURE: base64.b64encode(content).decode(), "text/plain": f"<{name}>"}
            outputs.append({"output_type": "display_data", "metadata": {}, "data": data})
    if result.value:
        data = {"text/plain": result.value}
        outputs.append({"output_type": "execute_result", "metadata": {}, "data": data, "execution_count": count})
    if result.error:
        name, _, message = result.error.partition(": ")
        outputs.append({"output_type": "error", "ename": name, "evalue": message, "traceback": [result.error]})
    return outputs


def _stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}
