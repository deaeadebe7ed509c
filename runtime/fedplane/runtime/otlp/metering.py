"""Values on their way to the collector: instruments that are made of the table of metrics, and a thread that sends them again and again."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from fedplane.runtime.metrics import METRICS, Bounds, Kind, Metric
from fedplane.runtime.otlp.keeping import Keeping
from fedplane.runtime.otlp.limits import SCOPE, STOP_SECONDS
from fedplane.runtime.telemetry import Look

__all__ = ["Metering"]


class Metering:
    """One process's values."""

    def __init__(self, resource: Resource, endpoint: str, keeping: Keeping, every_seconds: float) -> None:
        self._keeping = keeping
        self._bounds = Bounds()
        self._looks: dict[str, list[Look]] = {}
        self._stopped = threading.Event()
        exporter = OTLPMetricExporter(endpoint=endpoint, timeout=STOP_SECONDS)
        reader = PeriodicExportingMetricReader(exporter, math.inf, STOP_SECONDS * 1000)  # see `_tick`
        self._provider = MeterProvider([reader], resource, TraceBasedExemplarFilter(), shutdown_on_exit=False)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._make_instruments()
        threading.Thread(target=self._tick, args=(every_seconds,), name="metrics", daemon=True).start()

    def measure(self, metric: Metric, value: float, attributes: Mapping[str, str], traceparent: str | None) -> None:
        """A value of a counter or histogram."""
        kept, context = self._bounds.kept(metric, attributes), self._keeping.context(traceparent)
        if metric.name in self._counters:
            self._counters[metric.name].add(value, kept, context)
        elif metric.name in self._histograms:
            self._histograms[metric.name].record(value, kept, context)

    def look(self, metric: Metric, look: Look) -> Callable[[], None]:
        """Ask for a gauge's values from now on, until what is returned is called."""
        looks = self._looks.setdefault(metric.name, [])
        looks.append(look)
        return lambda: looks.remove(look)

    def stop(self) -> None:
        """Send what is left, and no more."""
        self._stopped.set()
        self._flush()
        self._provider.shutdown(STOP_SECONDS * 1000)

    def _make_instruments(self) -> None:
        meter = self._provider.get_meter(SCOPE)
        for metric in METRICS:
            named = (metric.name, metric.unit, metric.description)
            match metric.kind:
                case Kind.COUNTER:
                    self._counters[metric.name] = meter.create_counter(*named)
                case Kind.HISTOGRAM:
                    self._histograms[metric.name] = meter.create_histogram(*named, explicit_bucket_boundaries_advisory=metric.boundaries)
                case Kind.GAUGE:
                    meter.create_observable_gauge(metric.name, [self._looking(metric)], metric.unit, metric.description)

    def _looking(self, metric: Metric) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """A gauge's bounds count anew each time: what is not told any more makes room."""

        def observe(_: CallbackOptions) -> Iterator[Observation]:
            bounds = Bounds()
            for look in tuple(self._looks.get(metric.name, ())):
                for value, attributes in look():
                    yield Observation(value, bounds.kept(metric, attributes))

        return observe

    def _tick(self, every_seconds: float) -> None:
        """Send what was measured, again and again.

        The reader would do so itself, and would start a thread in every child process between fork and exec, where threads may hang.
        """
        while not self._stopped.wait(every_seconds):
            self._flush()

    def _flush(self) -> None:
        """Send what was measured. A gauge that cannot be looked at must not end what looks at the others."""
        try:
            self._provider.force_flush(STOP_SECONDS * 1000)
        except Exception as error:  # noqa: BLE001 -- the SDK raises nothing narrower
            structlog.get_logger().warning("not all metrics were collected", why=str(error))
