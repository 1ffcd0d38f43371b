"""OpenAI's dialect: completions, chat completions, models; and endpoints for infilling like Mistral's.

https://platform.openai.com/docs/api-reference/completions

A completion with `suffix`, or whose prompt has the marks of a model that infills, is an editor's request; others
continue the prompt. Any name is accepted for the model: editors send the one of the model that they take the server's
for. What would change the meaning of an answer and is not here (tools, token ids of another tokenizer, biases) is
refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any

from attrs import evolve
from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import Call, ServerContext, StreamAnswer, all_of, json_answer, server_sent_event
from codegen_lsp.http.dialects import llama_cpp_bodies, tabby
from codegen_lsp.http.dialects import openai_bodies as bodies
from codegen_lsp.http.dialects.openai_bodies import FINISH, AnswerHead
from codegen_lsp.http.fields import Fields, well_formed
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.prompts import with_prompt
from codegen_lsp.http.requests import Completed, CompletedText, CompletionRequest, Piece
from codegen_lsp.http.turns import NEXT_TURN, program_of, read_turns
from codegen_lsp.source.languages import language_of

MAX_CHOICES = 16
"""Choices of one request, over all prompts."""
MAX_TOKENS = 4096
DEFAULT_TOKENS = 16
"""Of a completion, as OpenAI has it; an editor's request without a limit is limited by the server's rules."""
DEFAULT_CHAT_TOKENS = 256
MAX_STOPS = 64
MAX_ALTERNATIVES = 20
TEMPERATURE = 0.2
"""Of a continuation for which the client sets none: the one that suits CodeGen best where one answer counts (Nijkamp et
al., 2023, section 3). An editor's request is greedy."""
CONSTRAINTS = (
    *("grammar", "json_schema", "structured_outputs", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "use_beam_search"),
)
"""Parameters of llama.cpp's server and vLLM that decide which text may come at all."""
DONE = b"data: [DONE]\n\n"

ChunkChoice = Callable[[Piece, int], dict[str, Any]]


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of this dialect."""
    handlers = [
        ("POST", "/v1/completions", completions),
        ("POST", "/v1/engines/{engine}/completions", completions),
        ("POST", "/v1/chat/completions", chat_completions),
        ("POST", "/chat/completions", chat_completions),
        ("POST", "/v1/fim/completions", fim_completions),
        ("POST", "/fim/completions", fim_completions),
        ("GET", "/v1/models/{name:path}", model),
    ]
    return [context.route(method, path, handler, problem_body) for method, path, handler in handlers]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem as OpenAI reports it."""
    return {"error": {"message": problem.message, "type": problem.kind, "param": None, "code": None}}


async def completions(call: Call) -> Response:
    """Complete a text or several; Tabby's requests come to the same path."""
    fields = call.fields
    if "segments" in fields:
        return await tabby.completions(call)
    suffix = fields.text("suffix") if "suffix" in fields else None
    prompts = _prompts(fields)
    request = _request(call)
    top_logprobs = fields.whole("logprobs", 0, 0, MAX_ALTERNATIVES) if "logprobs" in fields else None
    request = evolve(request, top_logprobs=top_logprobs)
    requests = [_editors_or_not(with_prompt(request, prompt, suffix), fields, DEFAULT_TOKENS) for prompt in prompts]
    count = fields.count("n", 1, MAX_CHOICES)
    best_of = max(count, fields.count("best_of", count, MAX_CHOICES))
    if best_of * len(prompts) > MAX_CHOICES:
        raise invalid(f"The request asks for more than {MAX_CHOICES} choices.")
    echo = fields.flag("echo")
    if echo and "logprobs" in fields:
        raise invalid("`logprobs` of the prompt, which `echo` asks for, are not supported.")
    requests = [evolve(one, candidates=best_of) for one in requests]
    head = AnswerHead("text", call.service.model.name)
    echoed = prompts if echo else [""] * len(prompts)
    if fields.flag("stream"):
        if best_of > count:
            raise invalid("`best_of` must equal `n` where the answer is streamed.")
        return _stream(call, _text_events(call, head, requests, echoed))
    answers = await all_of(_answer(call, one) for one in requests)
    answers = [evolve(one, texts=_best(one, count)) for one in answers]
    choices = [
        bodies.text_choice(
            index,
            before + text.text,
            FINISH[text.finish],
            None if one.top_logprobs is None or one.infill else text.pieces,
        )
        for index, (one, before, text) in enumerate(
            (one, before, text)
            for one, before, answer in zip(requests, echoed, answers, strict=True)
            for text in answer.texts or (CompletedText("", "end"),)
        )
    ]
    rest = {"usage": bodies.usage(answers), **bodies.refusal_of(answers)}
    return json_answer(head.body() | {"choices": choices} | rest)


async def chat_completions(call: Call) -> Response:
    """Continue a conversation, as a program."""
    fields = call.fields
    for name in ("tools", "functions"):
        if fields.values.get(name):
            raise invalid(f"`{name}` are not supported by this model.")
    if fields.table("response_format").text("type", "text") != "text":
        raise invalid("`response_format` must be `text`.")
    limit = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    request = conversation(call, _request(call, limit), fields.tables("messages"))
    request = _editors_or_not(request, fields, DEFAULT_CHAT_TOKENS)
    with_tokens = fields.flag("logprobs")
    top_logprobs = fields.whole("top_logprobs", 0, 0, MAX_ALTERNATIVES) if with_tokens else None
    request = evolve(request, candidates=fields.count("n", 1, MAX_CHOICES), top_logprobs=top_logprobs)
    return await _chat_answer(call, request)


async def fim_completions(call: Call) -> Response:
    """Complete code at a cursor."""
    fields = call.fields
    if "prompt" not in fields:
        raise invalid("`prompt` is required.")
    request = with_prompt(_request(call), fields.text("prompt"), fields.text("suffix"))
    return await _chat_answer(call, _editors_or_not(request, fields, DEFAULT_TOKENS))


async def model(call: Call) -> Response:
    """Return the loaded model."""
    loaded, name = call.service.model, call.request.path_params["name"]
    if name != loaded.name:
        raise RequestProblem(404, "invalid_request_error", f"The model {name!r} is not loaded; {loaded.name!r} is.")
    return json_answer(llama_cpp_bodies.model_entry(loaded, int(time.time() - loaded.load_seconds)))


def conversation(call: Call, request: CompletionRequest, messages: list[Fields]) -> CompletionRequest:
    """Return the request of a conversation; a last message with the marks of a model that infills is an editor's."""
    turns = read_turns(messages)
    asked = with_prompt(request, turns[-1].text)
    if asked.infill:
        return asked
    language = language_of(next(iter(call.service.model.languages), "python"))
    program = program_of(turns, language.line_comment or "#")
    return evolve(request, prefix=program, stop=(*request.stop, NEXT_TURN))


def _request(call: Call, limit: str = "max_tokens") -> CompletionRequest:
    """Return the fields that the requests of this dialect share. Raises: RequestProblem."""
    fields = call.fields
    if fields.values.get("logit_bias"):
        raise invalid("`logit_bias` is not supported, since its token ids are those of another tokenizer.")
    for name in CONSTRAINTS:
        if fields.values.get(name):
            raise invalid(f"`{name}` is not supported by this server.")
    stop = tuple(word for word in fields.texts("stop") if word)
    if len(stop) > MAX_STOPS:
        raise invalid(f"`stop` must be at most {MAX_STOPS} strings.")
    fields.text("user")
    fields.text("model")
    return CompletionRequest(
        prefix="",
        max_tokens=fields.limit(limit, MAX_TOKENS),
        stop=stop,
        top_p=fields.number("top_p", 1.0, 0.0, 1.0),
        top_k=max(0, fields.whole("top_k", 0, -1, 1_000_000)),
        seed=abs(fields.whole("seed", 0, -(2**63), 2**63 - 1)) if "seed" in fields else None,
        language=fields.table("extra").text("language"),
        user=call.user,
    )


def _editors_or_not(request: CompletionRequest, fields: Fields, default_tokens: int) -> CompletionRequest:
    """Return the request with the defaults of an editor's request, or of a continuation."""
    temperature = fields.number("temperature", 0.0 if request.infill else TEMPERATURE, 0.0, 2.0)
    limit = default_tokens if request.max_tokens is None and not request.infill else request.max_tokens
    return evolve(request, temperature=temperature, max_tokens=limit)


def _prompts(fields: Fields) -> list[str]:
    value = fields.values.get("prompt")
    if isinstance(value, str):
        return [well_formed(value)]
    if not isinstance(value, list) or not value:
        raise invalid("`prompt` must be a string or a list of strings.")
    if any(isinstance(item, int | list) for item in value):
        raise invalid("`prompt` must be text: token ids are refused, since they may be those of another tokenizer.")
    if len(value) > MAX_CHOICES:
        raise invalid(f"`prompt` must be at most {MAX_CHOICES} strings.")
    return fields.texts("prompt")


async def _answer(call: Call, request: CompletionRequest) -> Completed:
    """Return the answer to a request, which is nothing where no tokens are asked for."""
    if request.max_tokens != 0:
        return await call.service.complete(request)
    await call.service.warm(request)
    return Completed((CompletedText("", "length"),), call.service.model)


def _best(completed: Completed, count: int) -> tuple[CompletedText, ...]:
    """Return the likeliest answers, in the order of their likelihood if some are left out."""
    if len(completed.texts) <= count:
        return completed.texts
    return tuple(sorted(completed.texts, key=lambda text: -text.log_probability)[:count])


async def _chat_answer(call: Call, request: CompletionRequest) -> Response:
    """Answer in the form of a chat completion."""
    head = AnswerHead("chat", call.service.model.name)
    if call.fields.flag("stream"):
        return _stream(call, _chat_events(call, head, request))
    answer = await _answer(call, request)
    with_tokens = request.top_logprobs is not None and not request.infill
    texts = answer.texts or (CompletedText("", "end"),)
    choices = [bodies.chat_choice(index, text, with_tokens=with_tokens) for index, text in enumerate(texts)]
    return json_answer(head.body() | {"choices": choices, "usage": bodies.usage([answer])})


def _stream(call: Call, events: AsyncGenerator[bytes]) -> Response:
    return StreamAnswer(events, problem_body, seconds=call.config.request_seconds)


async def _text_events(
    call: Call, head: AnswerHead, requests: list[CompletionRequest], echoed: list[str]
) -> AsyncGenerator[bytes]:
    """Yield the chunks of a completion, one prompt after the other."""
    written: Counter[int] = Counter()
    answers: list[Completed] = []
    with_usage = call.fields.table("stream_options").flag("include_usage")
    for number, (request, before) in enumerate(zip(requests, echoed, strict=True)):
        first = number * request.candidates
        for index in range(first, first + request.candidates) if before else ():
            yield _chunk(head, bodies.text_choice(index, before, None), with_usage)
        async for piece in _pieces(call, request, answers):
            index = first + piece.candidate
            tokens = None if request.top_logprobs is None or request.infill else piece.tokens
            finish = FINISH[piece.finished.finish] if piece.finished else None
            if piece.text or piece.tokens or finish:
                choice = bodies.text_choice(index, piece.text, finish, tokens, written[index])
                yield _chunk(head, choice, with_usage)
            written[index] += len(piece.text)
    if with_usage:
        yield server_sent_event(head.body() | {"choices": [], "usage": bodies.usage(answers)})
    yield DONE


async def _chat_events(call: Call, head: AnswerHead, request: CompletionRequest) -> AsyncGenerator[bytes]:
    """Yield the chunks of a chat completion."""
    begun: set[int] = set()
    answers: list[Completed] = []
    with_usage = call.fields.table("stream_options").flag("include_usage")
    async for piece in _pieces(call, request, answers):
        index = piece.candidate
        if index not in begun:
            begun.add(index)
            first = bodies.delta_choice(index, {"role": "assistant", "content": ""}, None)
            yield _chunk(head, first, with_usage)
        if piece.text or piece.tokens:
            tokens = None if request.top_logprobs is None or request.infill else piece.tokens
            yield _chunk(head, bodies.delta_choice(index, {"content": piece.text}, None, tokens), with_usage)
        if piece.finished is not None:
            # Continue reads the content of every chunk, so the last one has some.
            last = bodies.delta_choice(index, {"content": ""}, FINISH[piece.finished.finish])
            yield _chunk(head, last, with_usage)
    if with_usage:
        yield server_sent_event(head.body(chunk=True) | {"choices": [], "usage": bodies.usage(answers)})
    yield DONE


def _chunk(head: AnswerHead, choice: Mapping[str, Any], with_usage: bool) -> bytes:
    body = head.body(chunk=True) | {"choices": [choice]}
    return server_sent_event(body | {"usage": None} if with_usage else body)


async def _pieces(call: Call, request: CompletionRequest, answers: list[Completed]) -> AsyncIterator[Piece]:
    """Yield the pieces of the answers to a request, at least one with the end of an answer; append the whole."""
    if request.max_tokens == 0:
        answers.append(nothing := await _answer(call, request))
        yield Piece(0, "", finished=nothing.texts[0], completed=nothing)
        return
    async for piece in call.service.stream(request):
        if piece.completed is not None:
            answers.append(piece.completed)
            if not piece.completed.texts:
                piece = evolve(piece, finished=CompletedText("", "end"))
        yield piece
