"""What a federation tells of itself, as an OTLP receiver hears it: spans and metrics of one run, as protocol buffers;
and what one process tells of itself, in lists."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as Exported
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from fedplane.runtime.metrics import Measurement, Metric
from fedplane.runtime.spans import Attributes, Ended, SpanKind
from fedplane.runtime.telemetry import Look, record_with

EXPORTED_SECONDS = 20
INTERVAL_MILLISECONDS = 500


@dataclass
class Heard:
    """Everything that has arrived; of each metric the last message of each process, which has all that was added up so far."""

    spans: dict[bytes, Span] = field(default_factory=dict)
    metrics: dict[str, list[Exported]] = field(default_factory=dict)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans.values() if span.name == name]

    def trace(self, traceparent: str) -> list[Span]:
        return [span for span in self.spans.values() if span.trace_id.hex() == traceparent.split("-")[1]]

    def points(self, name: str) -> list[Any]:
        found = []
        for metric in self.metrics.get(name, []):
            found += getattr(metric, str(metric.WhichOneof("data"))).data_points
        return found

    def totals(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The last value of each series. A replica's counters begin when it first counts, so a series is told apart by that time."""
        last: dict[tuple[Any, int], float] = {}
        for point in self.points(name):
            value = point.count if hasattr(point, "count") else point.as_double or point.as_int
            last[tuple(sorted(attributes(point).items())), point.start_time_unix_nano] = value
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for (series, _), value in last.items():
            sums[series] = sums.get(series, 0) + value
        return sums


def attributes(told: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a point."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in told.attributes}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def listening(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Heard]:
    """A receiver, and processes that are started in the block send to it."""
    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", str(INTERVAL_MILLISECONDS))
    heard = Heard()
    settings = OtelTapHttpProtobufReceiverSettings(
        http_port=port, listen_on_all_interfaces=False, print_traces_as_ndjson=False, print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )  # fmt: skip
    async with OtelTapHttpProtobufReceiver(settings) as receiver:

        async def spans() -> None:
            async for span in receiver.stream_traces():
                heard.spans[span.span_id] = span  # an exporter that hears no answer sends a batch again

        async def metrics() -> None:
            async for metric in receiver.stream_metrics():
                heard.metrics.setdefault(metric.name, []).append(metric)

        collecting = [asyncio.create_task(spans()), asyncio.create_task(metrics())]
        yield heard
        for task in collecting:
            task.cancel()


async def until(enough: Callable[[], bool]) -> None:
    """Wait until everything that is expected has been exported."""
    async with asyncio.timeout(EXPORTED_SECONDS):
        while not enough():
            await asyncio.sleep(0.1)


@dataclass
class Kept:
    """What this process tells, in lists, for what runs in it: see `telemetry.Recorder`. A span is its name, parent and attributes."""

    begun: list[tuple[str, str | None, Attributes]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    events: list[tuple[str, str, Attributes]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    measured: list[Measurement] = field(default_factory=list)
    looks: dict[str, Look] = field(default_factory=dict)

    def begin(
        self, name: str, parent: str | None, attributes: Attributes | None, links: Sequence[str | None], kind: SpanKind
    ) -> "KeptSpan":
        self.begun.append((name, parent, attributes or {}))
        return KeptSpan(self, name, parent or "")

    def emit(self, ended: Ended) -> None:
        self.ended.append(ended)

    def measure(self, metric: Metric, value: float, attributes: Mapping[str, str], traceparent: str | None) -> None:
        self.measured.append(Measurement(metric, value, attributes, traceparent))

    def look(self, metric: Metric, look: Look) -> Callable[[], None]:
        self.looks[metric.name] = look
        return lambda: None

    def stop(self) -> None:
        pass

    def named(self, name: str) -> list[tuple[str | None, Attributes]]:
        return [(parent, attributes) for begun, parent, attributes in self.begun if begun == name]


@dataclass(frozen=True)
class KeptSpan:
    """See `telemetry.Open`."""

    kept: Kept
    name: str
    traceparent: str

    def event(self, name: str, attributes: Attributes) -> None:
        self.kept.events.append((self.name, name, attributes))

    def fail(self, error: BaseException) -> None:
        self.kept.failed.append(self.name)

    def end(self) -> None:
        pass


@contextmanager
def kept() -> Iterator[Kept]:
    """Keep what this process tells in the block."""
    it = Kept()
    record_with(it)
    try:
        yield it
    finally:
        record_with(None)
