"""Which traces are kept, and contexts from elsewhere with that decision in them.

It is decided by the trace's id, in every process for itself. Ids of runs and rounds are digests of their names,
so all processes with the same ratio keep the same traces, and a process with a smaller ratio keeps some of those.
What parents say of themselves is not heeded, for it is the same decision; the sampler's names are OpenTelemetry's all the same.
"""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags

__all__ = ["Keeping", "links", "read"]


class Keeping:
    """The decision of one process."""

    def __init__(self, ratio: float) -> None:
        self.sampler = TraceIdRatioBased(ratio)

    def context(self, traceparent: str | None) -> Context | None:
        """A context from elsewhere; None if it is none."""
        there = read(traceparent)
        if there is None:
            return None
        kept = self.sampler.should_sample(None, there.trace_id, "").decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if kept else TraceFlags.DEFAULT)
        return trace.set_span_in_context(NonRecordingSpan(SpanContext(there.trace_id, there.span_id, is_remote=True, trace_flags=flags)))


def read(traceparent: str | None) -> SpanContext | None:
    """What a W3C header says; None if it says nothing."""
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        return SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(int(parts[3], 16)))
    except ValueError:
        return None  # somebody else's header: tracing never fails a run


def links(traceparents: Sequence[str | None]) -> list[Link]:
    """Links to those that are contexts."""
    return [Link(context) for traceparent in traceparents if (context := read(traceparent))]
