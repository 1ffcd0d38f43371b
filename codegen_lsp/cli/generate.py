"""`codegen-lsp generate`: continue a prompt with the model alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from codegen_lsp.cli.options import AsJson, Device, Engine, Model, Threads
from codegen_lsp.errors import CodegenError

if TYPE_CHECKING:
    from codegen_lsp.inference.client.client import InferenceClient
    from codegen_lsp.inference.rpc.messages import StreamedText
    from codegen_lsp.python_api import GeneratedText, TextRequest

MAX_PROMPT = 1 << 24
"""Characters of a prompt that are read; the model sees the last ones."""


class PromptError(CodegenError):
    """A prompt that can't be read."""


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT|-]", help="Text to continue; - reads it from standard input.", show_default=False
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Limit of generated tokens.")] = 128,
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, max=2.0, help="0 decodes greedily.")] = 0.0,
    top_p: Annotated[float, typer.Option(metavar="P", min=0.01, max=1.0, help="Mass of nucleus sampling.")] = 1.0,
    top_k: Annotated[int, typer.Option(metavar="K", min=0, help="Sample from the K most likely tokens; 0: all.")] = 0,
    number: Annotated[int, typer.Option("-n", metavar="K", min=1, max=64, help="Number of texts.")] = 1,
    truncate_before_pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="End before this regular expression, and before the second line that begins with print or def. "
            "May be repeated.",
        ),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text. May be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="Seed of sampling.", show_default=False)] = None,
    model: Model = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Continue a prompt with the model alone, and print the text as it is generated."""
    from codegen_lsp.checkpoints.store import find
    from codegen_lsp.cli.session import open_session
    from codegen_lsp.python_api import TextRequest, generated
    from codegen_lsp.settings import Settings

    request = TextRequest(
        _text_of(prompt),
        max_new_tokens,
        temperature,
        top_p,
        top_k,
        number,
        tuple(truncate_before_pattern or ()),
        tuple(stop or ()),
        seed,
    )
    truncation, params = request.truncation(), request.params()
    settings = Settings(model=model, device=device, threads=threads, engine=engine, ngrams="off")

    async def run() -> list[GeneratedText]:
        async with open_session(find(model), settings) as session:
            if number == 1 and not as_json:
                await _print_stream(request, session.client)
                return []
            found = await session.client.generate(params)
            return [generated(candidate, truncation) for candidate in found.candidates]

    texts = asyncio.run(run())
    if as_json:
        import attrs

        rows = [attrs.asdict(one) for one in texts]
        typer.echo(json.dumps({"prompt": request.prompt, "texts": rows}, ensure_ascii=False, indent=2))
    else:
        for at, one in enumerate(texts, start=1):
            typer.echo(f"{'' if at == 1 else chr(10)}--- {at} of {len(texts)} ---\n{one.text}")


async def _print_stream(request: TextRequest, client: InferenceClient) -> None:
    """Print the prompt and its continuation as that is generated, and end the generation where it is cut."""
    truncation = request.truncation()
    text = shown = ""
    cut = asyncio.Event()
    closed: BrokenPipeError | None = None

    def show(safe: str) -> None:
        nonlocal shown
        typer.echo(safe[len(shown) :], nl=False)
        sys.stdout.flush()
        shown = safe

    def on_text(part: StreamedText) -> None:
        nonlocal text, closed
        if closed is not None:
            return
        text += part.text
        try:
            show(truncation.safe(text))
        except BrokenPipeError as error:
            closed = error
            cut.set()
        if truncation.cuts(text):
            cut.set()

    typer.echo(request.prompt, nl=False)
    generating = asyncio.ensure_future(client.stream(request.params(), on_text))
    stopping = asyncio.ensure_future(cut.wait())
    try:
        await asyncio.wait({generating, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not cut.is_set():
            found = (await generating).candidates
            show(truncation.apply(found[0].text if found else ""))
    finally:
        generating.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError, CodegenError):
            await generating
    if closed is not None:
        raise closed
    typer.echo()


def _text_of(prompt: str | None) -> str:
    """Return the prompt, from standard input if it is `-` or missing there. Raises: PromptError."""
    if prompt is None and sys.stdin.isatty():
        raise PromptError("There is no prompt.", "Give one, or - to read it from standard input.")
    if prompt is None or prompt == "-":
        try:
            return sys.stdin.buffer.read(MAX_PROMPT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise PromptError(f"Standard input is not UTF-8: {error}.", "Convert it first.") from error
    return prompt
