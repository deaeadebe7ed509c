"""Beginning and ending what a process tells of itself: the one place that knows whether there is somewhere to send it.

Without an endpoint nothing is loaded and nothing is recorded, which is why this is a module of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.telemetry import Recorder, record_with

__all__ = ["exporting"]


@contextmanager
def exporting(service: str, replica: str, settings: TelemetrySettings) -> Iterator[None]:
    """Send what is recorded in the block to the endpoint, and what is left at its end; do nothing if there is none."""
    if not settings.otel_exporter_otlp_endpoint or not (settings.sends_traces or settings.sends_metrics):
        yield
        return
    from fedplane.runtime.otlp import Otlp  # noqa: PLC0415 -- 80 ms and 12 MB, for those who have somewhere to send it

    recorder: Recorder = Otlp(service, replica, settings)
    record_with(recorder)
    try:
        yield
    finally:
        record_with(None)
        recorder.stop()
