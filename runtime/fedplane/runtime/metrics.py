"""What is measured: every metric there is, as one literal table that instruments, documentation and dashboards are made of.

Names, units and attributes follow OpenTelemetry's conventions (https://opentelemetry.io/docs/specs/semconv/general/naming/).
An operator's store keeps one series for each combination of attributes, so every attribute here has a bound.
Either its values are listed, or there is a number beyond which all others count as `other`.
A run's id and a round's number are no attributes: each would be a series that nobody looks at again. They are on spans,
and an exemplar leads from a point to the span. The one exception is what a run that goes on has measured itself; see `RUN_METRIC`.

Nothing is measured here: `metering` does that, and who calls it is said in the table.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fedplane.schemas.facts import FACTS
from fedplane.schemas.models import Task
from fedplane.schemas.views import Phase

__all__ = [
    "ACTIVE_RUNS", "APP_DURATION", "BULK_IO", "CONNECTIONS_REFUSED", "CONTRIBUTIONS", "CONTRIBUTION_DURATION", "DENIALS", "FACTS_STATED",
    "FOLD_DURATION", "LOG_LAG", "METRICS", "METRICS_SHOWN_MAX", "OTHER", "PLACEMENT_DURATION", "ROUNDS", "ROUND_DURATION", "RUNS",
    "RUNS_SHOWN_MAX", "RUN_METRIC", "WORK_BACKLOG", "Attribute", "Bounds", "Kind", "Measurement", "Metric", "prometheus_names",
]  # fmt: skip

OTHER = "other"
"""What stands for every value beyond an attribute's bound."""

CLUSTERS_MAX = 100
"""How many clusters a process tells apart: as many lines as a graph can show are far fewer, and a hub may have thousands."""

REASONS_MAX = 50
"""How many reasons a process tells apart. We have thirty words of our own; others may state facts, too, and say what they like."""

RUNS_SHOWN_MAX = 20
"""Of how many runs that go on the app's own metrics are shown, the latest first: each takes a series per metric and replica."""

METRICS_SHOWN_MAX = 10
"""How many metrics of one run are shown, the first by name: loss, accuracy and some more are what people look at."""

METRIC_NAMES_MAX = 100
"""How many names apps' metrics may have in all before a process calls them `other`."""

SECONDS_SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Boundaries for what a machine does at once: OpenTelemetry's advice for durations in seconds (semconv, http.server.request.duration)."""

SECONDS_LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0)
"""Boundaries for what people wait for: a demo's round takes tenths of a second, one of large models hours. The divisions are a clock's."""


class Kind(StrEnum):
    """The instrument: what is added up, how values are distributed, or what is so now."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One dimension of a metric. Its `values` are listed, or there are `at_most` so many in a process, and `other`."""

    name: str
    values: tuple[str, ...] = ()
    at_most: int = 0


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `said_by` are the roles whose processes say it."""

    name: str
    kind: Kind
    unit: str
    description: str
    said_by: str
    attributes: tuple[Attribute, ...] = ()
    boundaries: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of a metric, with attributes by name, and the context that an exemplar leads to."""

    metric: Metric
    value: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None


_TASK = Attribute("fedplane.task", tuple(Task))
_REASON = Attribute("error.type", at_most=REASONS_MAX)
_CLUSTER = Attribute("fedplane.cluster", at_most=CLUSTERS_MAX)
_RESULT = Attribute("fedplane.outcome", ("aggregated", "failed", "cancelled"))

RUNS = Metric(
    "fedplane.runs", Kind.COUNTER, "{run}", "runs that ended; one that a person cancelled by the command line is not among them",
    "aggregator, scheduler, driver", (Attribute("fedplane.outcome", ("completed", "failed", "cancelled")), _REASON),
)  # fmt: skip
ACTIVE_RUNS = Metric(
    "fedplane.active_runs", Kind.GAUGE, "{run}", "runs that go on; each replica says the same, so take the largest",
    "status", (Attribute("fedplane.phase", (Phase.WAITING, Phase.RUNNING)),),
)  # fmt: skip
RUN_METRIC = Metric(
    "fedplane.run.metric", Kind.GAUGE, "",
    "what the app of a run that goes on measured last, as loss or accuracy; each replica says the same, so take the largest",
    "status", (Attribute("fedplane.run", at_most=RUNS_SHOWN_MAX), Attribute("fedplane.metric", at_most=METRIC_NAMES_MAX)),
)  # fmt: skip
ROUNDS = Metric(
    "fedplane.rounds", Kind.COUNTER, "{round}", "rounds that ended, and why those failed that did", "aggregator", (_TASK, _RESULT, _REASON)
)
ROUND_DURATION = Metric(
    "fedplane.round.duration", Kind.HISTOGRAM, "s", "from the opening of a round to its result or failure", "aggregator",
    (_TASK, _RESULT), SECONDS_LONG,
)  # fmt: skip
CONTRIBUTIONS = Metric(
    "fedplane.contributions", Kind.COUNTER, "{contribution}",
    "what became of the clusters that a round asked, counted at its end; reason and cluster are said of those that do not count",
    "aggregator",
    (_TASK, Attribute("fedplane.outcome", ("accepted", "declined", "rejected", "unanswered")), _REASON, _CLUSTER),
)  # fmt: skip
CONTRIBUTION_DURATION = Metric(
    "fedplane.contribution.duration", Kind.HISTOGRAM, "s", "from the opening of a round to an answer that counts in it", "aggregator",
    (_TASK,), SECONDS_LONG,
)  # fmt: skip
APP_DURATION = Metric(
    "fedplane.app.duration", Kind.HISTOGRAM, "s", "how long an app worked on a question: a cluster's training", "collaborator",
    (_TASK, _CLUSTER, _REASON), SECONDS_LONG,
)  # fmt: skip
FOLD_DURATION = Metric(
    "fedplane.fold.duration", Kind.HISTOGRAM, "s", "how long a shard took to be folded or measured, reading and writing included",
    "aggregator", (Attribute("fedplane.work", ("fold", "measure")),), SECONDS_SHORT,
)  # fmt: skip
PLACEMENT_DURATION = Metric(
    "fedplane.placement.duration", Kind.HISTOGRAM, "s", "from a run's submission to the choice of its clusters, waits included",
    "scheduler", (), SECONDS_LONG,
)  # fmt: skip
BULK_IO = Metric(
    "fedplane.bulk.io", Kind.COUNTER, "By", "bytes of models, updates and archives that were stored and read",
    "aggregator, collaborator, driver, status", (Attribute("network.io.direction", ("transmit", "receive")),),
)  # fmt: skip
WORK_BACKLOG = Metric(
    "fedplane.work.backlog", Kind.GAUGE, "{task}",
    "shards that wait for a replica, and those that one holds; of one queue, so each replica says the same: take the largest",
    "aggregator", (Attribute("fedplane.state", ("waiting", "leased")),),
)  # fmt: skip
LOG_LAG = Metric(
    "fedplane.log.lag", Kind.GAUGE, "{fact}", "facts that are stored and that this replica has not taken in yet",
    "every service",
    (Attribute("fedplane.core", ("collaborator", "driver", "driving", "following", "intake", "listening", "onlooker", "phases", "retention",
                                 "runs", "scheduler", "sending", "storing")),),
)  # fmt: skip
FACTS_STATED = Metric(
    "fedplane.facts", Kind.COUNTER, "{fact}", "facts that this process was the first to state",
    "every service", (Attribute("cloudevents.event_type", tuple(kind.type for kind in FACTS)),),
)  # fmt: skip
DENIALS = Metric(
    "fedplane.denials", Kind.COUNTER, "{denial}", "what a server refused because this process has no permission",
    "every service", (Attribute("fedplane.server", ("nats", "kubernetes")),),
)  # fmt: skip

CONNECTIONS_REFUSED = Metric(
    "fedplane.connections.refused", Kind.COUNTER, "{connection}", "connections to the bus that were not let in, by the kind of reason",
    "authorizer",
    (Attribute("error.type", ("certificate", "authority", "subject", "not-granted", "expired", "revoked", "crowded")),),
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    RUNS, ACTIVE_RUNS, RUN_METRIC, ROUNDS, ROUND_DURATION, CONTRIBUTIONS, CONTRIBUTION_DURATION, APP_DURATION, FOLD_DURATION,
    PLACEMENT_DURATION, BULK_IO, WORK_BACKLOG, LOG_LAG, FACTS_STATED, DENIALS, CONNECTIONS_REFUSED,
)  # fmt: skip
"""Every metric, from what a user notices to what only an operator does. A new one is a constant above and a name here."""


class Bounds:
    """Keeps the attributes of one process's measurements to what the table says."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], set[str]] = {}

    def kept(self, metric: Metric, attributes: Mapping[str, str]) -> dict[str, str]:
        """The attributes with `other` for what is not listed, or is beyond the bound."""
        known = {attribute.name: attribute for attribute in metric.attributes}
        return {name: self._value(metric, known[name], value) for name, value in attributes.items()}

    def _value(self, metric: Metric, attribute: Attribute, value: str) -> str:
        if attribute.values:
            return value if value in attribute.values else OTHER
        seen = self._seen.setdefault((metric.name, attribute.name), set())
        if value not in seen and len(seen) >= attribute.at_most:
            return OTHER
        seen.add(value)
        return value


SUFFIXES = {"s": "_seconds", "By": "_bytes"}


def prometheus_names(metric: Metric) -> Iterator[str]:
    """What the metric is called where OTLP is translated for Prometheus: dots become underscores, units and kinds suffixes.

    Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
    """
    name = re.sub(r"\W", "_", metric.name) + SUFFIXES.get(metric.unit, "")
    match metric.kind:
        case Kind.COUNTER:
            yield f"{name}_total"
        case Kind.HISTOGRAM:
            yield from (f"{name}_{part}" for part in ("bucket", "sum", "count"))
        case Kind.GAUGE:
            yield name
