"""Traces and metrics, as the code that has something to tell sees them: a span around a block, a span that is over, a value.

Context travels with the facts, so one round is one trace across processes and clusters; `spans` says how, `metrics` what is measured.
Without an endpoint nothing is recorded, and OpenTelemetry is not even loaded: telling costs a function call and a comparison.
Context is passed on all the same.
How it is sent is the business of `otlp`; `exporting` loads that when there is somewhere to send it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Protocol

from fedplane.runtime.metrics import Measurement, Metric
from fedplane.runtime.spans import Attributes, Ended, SpanKind

__all__ = [
    "NOTHING", "Look", "Open", "Recorder", "Spanned", "emit", "is_on", "observed", "record", "record_with", "span", "tell",
]  # fmt: skip

NOTHING: Mapping[str, str] = MappingProxyType({})

Look = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""What is so now: values with their attributes. It is called from another thread, so it reads what is replaced as a whole."""


class Open(Protocol):
    """A span that was begun, as its recorder has it."""

    @property
    def traceparent(self) -> str:
        """Its own context."""
        ...

    def event(self, name: str, attributes: Attributes) -> None:
        """Something happened within it."""
        ...

    def fail(self, error: BaseException) -> None:
        """This is why it did not succeed."""
        ...

    def end(self) -> None:
        """It is over."""
        ...


class Recorder(Protocol):
    """Where everything goes while there is an endpoint."""

    def begin(
        self, name: str, parent: str | None, attributes: Attributes | None, links: Sequence[str | None], kind: SpanKind
    ) -> Open | None:
        """A span that begins now, and is what code that is called from here belongs to; None if no traces are sent."""
        ...

    def emit(self, ended: Ended) -> None:
        """A span that is over."""
        ...

    def measure(self, metric: Metric, value: float, attributes: Mapping[str, str], traceparent: str | None) -> None:
        """A value of a counter or histogram."""
        ...

    def look(self, metric: Metric, look: Look) -> Callable[[], None]:
        """Ask for a gauge's values again and again, until what is returned is called."""
        ...

    def stop(self) -> None:
        """Send what is left, and no more."""
        ...


_recorder: Recorder | None = None


class Spanned:
    """A span around a block, as the code inside it sees it. An exception that leaves the block marks it as failed, with the reason."""

    __slots__ = ("_begun", "_open", "_parent")

    def __init__(self, opened: Open | None, parent: str | None) -> None:
        self._open = opened
        self._parent = parent
        self._begun = time.perf_counter()

    @property
    def traceparent(self) -> str | None:
        """The context to send along: this span's, or the parent's if nothing is recorded."""
        return self._open.traceparent if self._open else self._parent

    @property
    def seconds(self) -> float:
        """How long it has lasted so far."""
        return time.perf_counter() - self._begun

    def event(self, name: str, attributes: Attributes = NOTHING) -> None:
        """Something happened within the span."""
        if self._open:
            self._open.event(name, attributes)

    def __enter__(self) -> "Spanned":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._open:
            if error is not None:
                self._open.fail(error)
            self._open.end()


def record_with(recorder: Recorder | None) -> None:
    """Have everything recorded there from now on; None: nowhere."""
    global _recorder  # noqa: PLW0603 -- one process, one telemetry
    _recorder = recorder


def is_on() -> bool:
    """Whether anything is recorded: for those who would have to compute what they tell."""
    return _recorder is not None


def span(
    name: str,
    *,
    parent: str | None = None,
    attributes: Attributes | None = None,
    links: Sequence[str | None] = (),
    kind: SpanKind = SpanKind.INTERNAL,
) -> Spanned:
    """A span around a `with` block."""
    if _recorder is None:
        return Spanned(None, parent)
    return Spanned(_recorder.begin(name, parent, attributes, links, kind), parent)


def emit(ended: Iterable[Ended]) -> None:
    """Record spans that are over."""
    if _recorder is not None:
        for each in ended:
            _recorder.emit(each)


def tell(metric: Metric, value: float = 1, attributes: Mapping[str, str] = NOTHING, traceparent: str | None = None) -> None:
    """Record one value. Its exemplar leads to the given context, or to the span around the call."""
    if _recorder is not None:
        _recorder.measure(metric, value, attributes, traceparent)


def record(measurements: Iterable[Measurement]) -> None:
    """Record values that somebody has computed."""
    if _recorder is not None:
        for each in measurements:
            _recorder.measure(each.metric, each.value, each.attributes, each.traceparent)


@contextmanager
def observed(metric: Metric, look: Look) -> Iterator[None]:
    """Tell a gauge's values as long as the block lasts."""
    if _recorder is None:
        yield
        return
    forget = _recorder.look(metric, look)
    try:
        yield
    finally:
        forget()
