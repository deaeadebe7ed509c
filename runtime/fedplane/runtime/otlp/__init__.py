"""Sending spans and values by OTLP over HTTP: the only package that knows OpenTelemetry, loaded when there is an endpoint.

`keeping` decides which traces are kept, `tracing` sends spans, `metering` sends values.
A process whose endpoint does not answer goes on: spans and values wait in bounded queues of the SDK, and the oldest are dropped.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from opentelemetry.sdk.resources import Resource

from fedplane.runtime.metrics import Metric
from fedplane.runtime.otlp.keeping import Keeping
from fedplane.runtime.otlp.limits import STOP_SECONDS
from fedplane.runtime.otlp.metering import Metering
from fedplane.runtime.otlp.tracing import Tracing
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.spans import Attributes, Ended, SpanKind
from fedplane.runtime.telemetry import Look, Open

__all__ = ["STOP_SECONDS", "Otlp"]

COMPLAINT_SECONDS = 60.0
"""A collector that is away is said to be so once in that time; nothing that a run needs is missing."""


class _Complaints(logging.Handler):
    """Puts what the SDK complains of into this process's log: now and then, since a collector that is away is complained of on and on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + COMPLAINT_SECONDS
            structlog.get_logger().warning("telemetry is not sent as it should be", why=record.getMessage())


class Otlp:
    """See `telemetry.Recorder`."""

    def __init__(self, service: str, replica: str, settings: TelemetrySettings) -> None:
        sdk = logging.getLogger("opentelemetry")
        sdk.propagate, sdk.handlers = False, [_Complaints()]
        base = (settings.otel_exporter_otlp_endpoint or "").rstrip("/")
        resource = Resource.create({"service.namespace": "fedplane", "service.name": service, "service.instance.id": replica})
        keeping, every_seconds = Keeping(settings.sample_ratio), settings.otel_metric_export_interval / 1000
        self._tracing = Tracing(resource, f"{base}/v1/traces", keeping) if settings.sends_traces else None
        self._metering = Metering(resource, f"{base}/v1/metrics", keeping, every_seconds) if settings.sends_metrics else None

    def begin(
        self, name: str, parent: str | None, attributes: Attributes | None, links: Sequence[str | None], kind: SpanKind
    ) -> Open | None:
        """See `Recorder.begin`."""
        return self._tracing.begin(name, parent, attributes, links, kind) if self._tracing else None

    def emit(self, ended: Ended) -> None:
        """See `Recorder.emit`."""
        if self._tracing:
            self._tracing.emit(ended)

    def measure(self, metric: Metric, value: float, attributes: Mapping[str, str], traceparent: str | None) -> None:
        """See `Recorder.measure`."""
        if self._metering:
            self._metering.measure(metric, value, attributes, traceparent)

    def look(self, metric: Metric, look: Look) -> Callable[[], None]:
        """See `Recorder.look`."""
        return self._metering.look(metric, look) if self._metering else lambda: None

    def stop(self) -> None:
        """See `Recorder.stop`. Both kinds are sent side by side: an endpoint that does not answer is waited for once."""
        stopping = [threading.Thread(target=each.stop, daemon=True) for each in (self._tracing, self._metering) if each]
        end = time.monotonic() + STOP_SECONDS
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(max(0.0, end - time.monotonic()))
