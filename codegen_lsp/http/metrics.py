"""Measurements of the HTTP server, for Prometheus.

prometheus_client writes the text: histograms, escaping, and the types that clients of `/metrics` negotiate. The names
of llama.cpp's server are there beside our own, for dashboards that know them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codegen_lsp.http.problems import CLIENT_CLOSED_REQUEST
from codegen_lsp.inference.rpc.messages import GenerationStats

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Seconds. A suggestion that comes after a quarter of a second is late."""
OTHER_PATH = "other"
"""Label of paths that the server does not have, of which clients could invent any number."""


class ServerMetrics(Collector):
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("path", "status")
        self.requests = Counter("codegen_http_requests", "Answered requests.", labels, registry=self.registry)
        self.seconds = Histogram(
            "codegen_http_request_seconds",
            "Time from a request to the end of its answer.",
            ("path",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.first_bytes = Histogram(
            "codegen_http_first_byte_seconds",
            "Time from a request to the beginning of its answer.",
            ("path",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.open_requests = Gauge("codegen_http_open_requests", "Requests being answered.", registry=self.registry)
        self.queue_seconds = Histogram(
            "codegen_queue_seconds", "Wait of a generation for its turn.", buckets=BUCKETS, registry=self.registry
        )
        self.generations = self._counter("codegen_generations", "Generations that came to their end.")
        self.cancelled = self._counter("codegen_cancelled_generations", "Generations whose client went away.")
        self.prompt_tokens = self._counter("codegen_prompt_tokens", "Tokens of prompts.")
        self.cached_tokens = self._counter("codegen_cached_prompt_tokens", "Those that were in the KV cache.")
        self.generated_tokens = self._counter("codegen_generated_tokens", "Tokens that were generated.")
        self.drafted_tokens = self._counter("codegen_drafted_tokens", "Speculative tokens that were run.")
        self.accepted_tokens = self._counter("codegen_accepted_tokens", "Those that were right.")
        self.prefill_seconds = self._counter("codegen_prefill_seconds", "Time of generations up to the first token.")
        self.decode_seconds = self._counter("codegen_decode_seconds", "Time of generations after the first token.")
        self.generating: Callable[[], int] = lambda: 0
        """Returns the number of generations that run or wait."""
        self.registry.register(self)

    def generated(self, stats: GenerationStats) -> None:
        """Count a generation that came to its end."""
        self.generations.inc()
        self.queue_seconds.observe(stats.queue_seconds)
        self.prompt_tokens.inc(stats.prompt_tokens)
        self.cached_tokens.inc(stats.cached_tokens)
        self.generated_tokens.inc(stats.generated_tokens)
        self.drafted_tokens.inc(stats.drafted_tokens)
        self.accepted_tokens.inc(stats.accepted_tokens)
        self.prefill_seconds.inc(stats.first_token_seconds)
        self.decode_seconds.inc(max(0.0, stats.total_seconds - stats.first_token_seconds))

    def collect(self) -> Iterable[Metric]:
        """Yield what is computed when it is asked for: the slots, and the names of llama.cpp's server."""
        slots = self.generating()
        yield GaugeMetricFamily("codegen_busy_slots", "Generations that run or wait.", slots)
        prompt, cached = _value(self.prompt_tokens), _value(self.cached_tokens)
        tokens = _value(self.generated_tokens)
        prefill, decode = _value(self.prefill_seconds), _value(self.decode_seconds)
        computed = prompt - cached
        yield _llama_counter("prompt_tokens", "Number of prompt tokens processed.", computed)
        yield _llama_counter("prompt_seconds", "Prompt process time", prefill)
        yield _llama_counter("tokens_predicted", "Number of generation tokens processed.", tokens)
        yield _llama_counter("tokens_predicted_seconds", "Predict process time", decode)
        yield GaugeMetricFamily(
            "llamacpp:prompt_tokens_seconds", "Average prompt throughput in tokens/s.", computed / max(prefill, 1e-9)
        )
        yield GaugeMetricFamily(
            "llamacpp:predicted_tokens_seconds",
            "Average generation throughput in tokens/s.",
            tokens / max(decode, 1e-9),
        )
        yield GaugeMetricFamily("llamacpp:requests_processing", "Number of requests processing.", slots)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the text for a client that sent this header `Accept`, and its media type."""
        try:
            encoder, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # prometheus_client's, of a version or quality that is no number
            encoder, media_type = choose_encoder("")
        return encoder(self.registry), media_type

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)


class RequestMetrics:
    """ASGI middleware that measures requests."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, paths: frozenset[str]) -> None:
        """`paths` are those that the server has."""
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else OTHER_PATH
        started, status = time.perf_counter(), CLIENT_CLOSED_REQUEST

        async def measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.first_bytes.labels(path).observe(time.perf_counter() - started)
            await send(message)

        with self._metrics.open_requests.track_inprogress():
            try:
                await self._app(scope, receive, measured)
            finally:
                self._metrics.requests.labels(path, str(status)).inc()
                self._metrics.seconds.labels(path).observe(time.perf_counter() - started)


def _value(counter: Counter) -> float:
    (metric,) = counter.collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))


def _llama_counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"llamacpp:{name}", text, value)
