"""Spans on their way to the collector: those that are begun and ended here, and those that somebody tells of when they are over."""

from collections.abc import Sequence
from contextvars import ContextVar, Token
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, Status, StatusCode

from fedplane.runtime.otlp.keeping import Keeping, links, read
from fedplane.runtime.otlp.limits import SCOPE, STOP_SECONDS
from fedplane.runtime.spans import EVENTS_MAX, MESSAGE_CHARACTERS_MAX, Attributes, Ended, SpanKind

__all__ = ["Tracing"]

EXPORT_SECONDS = 1.0
"""How long finished spans wait to be sent together: short, because whoever looks at a slow round looks now."""

WAITING_SPANS_MAX = 20_000
"""How many may wait. The end of a round with thousands of clusters is told at once, and a span that is dropped leaves a tree in pieces.
Each takes about a kilobyte; the SDK's own bound is a tenth of it.
"""

KINDS = {kind: trace.SpanKind[kind.name] for kind in SpanKind}

_identity: ContextVar[tuple[int, int] | None] = ContextVar("identity", default=None)


class _Identities(RandomIdGenerator):
    """Random ids, except for a span whose identity is fixed beforehand."""

    def generate_span_id(self) -> int:
        fixed = _identity.get()
        return fixed[1] if fixed else super().generate_span_id()

    def generate_trace_id(self) -> int:
        fixed = _identity.get()
        return fixed[0] if fixed else super().generate_trace_id()


class _Open:
    """See `telemetry.Open`."""

    def __init__(self, span: Span, token: Token[Context]) -> None:
        self._span = span
        self._token = token

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, attributes)

    def fail(self, error: BaseException) -> None:
        """One that somebody gave up is no failure: it says so, and is over."""
        if not isinstance(error, Exception):
            self._span.add_event("given up")
            return
        reason = getattr(error, "reason", type(error).__name__)
        message = str(error)[:MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()  # an app may print what is no text
        told = {"error.type": reason, "exception.type": type(error).__name__, "exception.message": message}
        self._span.add_event("exception", told)
        self._span.set_attribute("error.type", reason)
        self._span.set_status(Status(StatusCode.ERROR, message))

    def end(self) -> None:
        detach(self._token)
        self._span.end()


class Tracing:
    """One process's spans."""

    def __init__(self, resource: Resource, endpoint: str, keeping: Keeping) -> None:
        self._keeping = keeping
        self._provider = TracerProvider(resource=resource, id_generator=_Identities(), sampler=keeping.sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=STOP_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, WAITING_SPANS_MAX, EXPORT_SECONDS * 1000))
        self._tracer = self._provider.get_tracer(SCOPE)

    def begin(self, name: str, parent: str | None, attributes: Attributes | None, linked: Sequence[str | None], kind: SpanKind) -> _Open:
        """A span that begins now, and that whatever is begun from here belongs to."""
        context = self._keeping.context(parent)
        span = self._tracer.start_span(name, context, kind=KINDS[kind], attributes=attributes, links=links(linked))
        return _Open(span, attach(trace.set_span_in_context(span)))

    def emit(self, ended: Ended) -> None:
        """A span that is over."""
        fixed = read(ended.identity)
        token = _identity.set((fixed.trace_id, fixed.span_id) if fixed else None)
        try:
            span = self._tracer.start_span(
                ended.name, self._keeping.context(ended.parent) or Context(), kind=KINDS[ended.kind], attributes=ended.attributes,
                links=links(ended.links), start_time=_nanoseconds(ended.begin),
            )  # fmt: skip
        finally:
            _identity.reset(token)
        for event in ended.events[:EVENTS_MAX]:
            span.add_event(event.name, event.attributes, _nanoseconds(event.at))
        if ended.problem:
            span.set_status(Status(StatusCode.ERROR, ended.problem[:MESSAGE_CHARACTERS_MAX]))
        span.end(_nanoseconds(ended.end))

    def stop(self) -> None:
        """Send what is left, and no more."""
        self._provider.force_flush(int(STOP_SECONDS * 1000))
        self._provider.shutdown()


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)
