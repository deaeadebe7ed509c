"""Traces: spans whose context travels with the facts, so that one round is one trace across processes and clusters.

A run or a round has no process of its own: any replica may begin it and another may end it.
So its root span has an identity that everybody can compute, and every fact carries that of its round or run as `traceparent`.
Whoever ends a round or a run emits the root span itself, from its beginning on.
Without an endpoint nothing is recorded and a span costs one function call; context is passed on all the same.
Sources: W3C Trace Context; OpenTelemetry's messaging conventions for the names of attributes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags

from fedplane.schemas.facts import Fact, RoundFact, RunFact

__all__ = ["Attributes", "Spanned", "emit", "round_traceparent", "run_traceparent", "traceparent_of", "span", "start", "stop"]

Attributes = Mapping[str, str | int | float | bool]

EXPORT_SECONDS = 1.0
"""How long finished spans wait to be sent together: short, because whoever looks at a slow round looks now."""

STOP_SECONDS = 3.0
"""How long a stopping process tries to send its last spans."""

_identity: ContextVar[tuple[int, int] | None] = ContextVar("identity", default=None)
_provider: TracerProvider | None = None


class _Identities(RandomIdGenerator):
    """Random ids, except for a span whose identity is fixed beforehand."""

    def generate_span_id(self) -> int:
        fixed = _identity.get()
        return fixed[1] if fixed else super().generate_span_id()

    def generate_trace_id(self) -> int:
        fixed = _identity.get()
        return fixed[0] if fixed else super().generate_trace_id()


class Spanned:
    """A running span, as the code inside it sees it."""

    def __init__(self, span: Span | None, parent: str | None) -> None:
        self._span = span
        self._parent = parent

    @property
    def traceparent(self) -> str | None:
        """The context to send along: this span's, or the parent's if nothing is recorded."""
        return _written(self._span.get_span_context()) if self._span else self._parent

    def event(self, name: str, attributes: Attributes | None = None) -> None:
        """Something happened within the span."""
        if self._span:
            self._span.add_event(name, attributes)

    def fail(self, message: str) -> None:
        """What the span stands for did not succeed."""
        if self._span:
            self._span.set_status(Status(StatusCode.ERROR, message))


def start(service: str, replica: str, endpoint: str | None) -> None:
    """Record spans from now on and send them to an OTLP/HTTP endpoint (its base URL); do nothing if there is none."""
    global _provider  # noqa: PLW0603 -- one process, one telemetry
    if not endpoint:
        return
    resource = Resource.create({"service.namespace": "fedplane", "service.name": service, "service.instance.id": replica})
    _provider = TracerProvider(resource=resource, id_generator=_Identities(), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=STOP_SECONDS)
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_SECONDS * 1000))


def stop() -> None:
    """Send what is left."""
    if _provider is not None:
        _provider.force_flush(int(STOP_SECONDS * 1000))
        _provider.shutdown()


@contextmanager
def span(
    name: str, *, parent: str | None = None, attributes: Attributes | None = None, links: Sequence[str | None] = ()
) -> Iterator[Spanned]:
    """A span around a block. An exception that leaves the block marks it as failed."""
    if _provider is None:
        yield Spanned(None, parent)
        return
    with _provider.get_tracer("fedplane").start_as_current_span(
        name, _context(parent), attributes=attributes, links=_links(links), record_exception=True, set_status_on_exception=True
    ) as recorded:
        yield Spanned(recorded, parent)


def emit(
    name: str,
    begin: datetime,
    end: datetime,
    *,
    identity: str | None = None,
    parent: str | None = None,
    attributes: Attributes | None = None,
    links: Sequence[str | None] = (),
    failure: str | None = None,
) -> None:
    """Record a span that is over. `identity` is the one under which others have already named it as their parent."""
    if _provider is None:
        return
    fixed = _read(identity)
    token = _identity.set((fixed.trace_id, fixed.span_id) if fixed else None)
    try:
        done = _provider.get_tracer("fedplane").start_span(
            name, _context(parent) or Context(), attributes=attributes, links=_links(links), start_time=_nanoseconds(begin)
        )
    finally:
        _identity.reset(token)
    if failure:
        done.set_status(Status(StatusCode.ERROR, failure))
    done.end(_nanoseconds(end))


def run_traceparent(run: str) -> str:
    """The identity of a run's root span, the same wherever it is computed."""
    return _fixed(run)


def round_traceparent(run: str, round_: int) -> str:
    """The identity of a round's root span, the same wherever it is computed."""
    return _fixed(f"{run}/{round_}")


def traceparent_of(fact: Fact) -> str | None:
    """The context in which a fact is stated if there is no closer one: its round's, or its run's."""
    match fact:
        case RoundFact():
            return round_traceparent(fact.run, fact.round)
        case RunFact():
            return run_traceparent(fact.run)
    return None


def _fixed(what: str) -> str:
    digest = hashlib.sha256(what.encode()).digest()
    return f"00-{digest[:16].hex()}-{digest[16:24].hex()}-01"


def _context(parent: str | None) -> Context | None:
    context = _read(parent)
    return trace.set_span_in_context(NonRecordingSpan(context)) if context else None


def _links(parents: Sequence[str | None]) -> list[Link]:
    return [Link(context) for parent in parents if (context := _read(parent))]


def _read(traceparent: str | None) -> SpanContext | None:
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        return SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(int(parts[3], 16)))
    except ValueError:
        return None  # somebody else's header: tracing never fails a run


def _written(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
