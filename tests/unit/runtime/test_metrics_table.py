"""The table of metrics keeps what it promises: names as OpenTelemetry wants them, and no more series than are said."""

import ast
import re

from sources import tree

from fedplane.runtime import metrics
from fedplane.runtime.metrics import (
    APP_DURATION,
    BULK_IO,
    CONTRIBUTIONS,
    LOG_LAG,
    METRICS,
    OTHER,
    RUN_METRIC,
    Bounds,
    Kind,
    Metric,
    prometheus_names,
)

NAME = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")
IDENTITIES = {"fedplane.run", "fedplane.round"}


def test_every_metric_that_there_is_is_in_the_table_once() -> None:
    assert [metric for metric in vars(metrics).values() if isinstance(metric, Metric)] == list(METRICS)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_names_and_units_are_as_opentelemetry_wants_them() -> None:
    for metric in METRICS:
        assert NAME.fullmatch(metric.name), metric.name
        assert re.fullmatch(r"s|By|\{[a-z]+\}|", metric.unit), metric.name
        assert metric.name.endswith(".duration") == (metric.kind is Kind.HISTOGRAM) == bool(metric.boundaries), metric.name
        assert not any(other.name.startswith(metric.name + ".") for other in METRICS), f"{metric.name} is also a namespace"


def test_every_attribute_is_bounded_and_only_gauges_of_live_runs_name_a_run() -> None:
    for metric in METRICS:
        for attribute in metric.attributes:
            assert NAME.fullmatch(attribute.name), attribute.name
            assert bool(attribute.values) != bool(attribute.at_most), f"{metric.name}: {attribute.name}"
            assert attribute.name not in IDENTITIES or metric is RUN_METRIC, metric.name


def test_what_is_not_listed_counts_as_other() -> None:
    kept = Bounds().kept(BULK_IO, {"network.io.direction": "sideways"})

    assert kept == {"network.io.direction": OTHER}


def test_what_is_beyond_the_bound_counts_as_other_and_what_was_within_it_stays() -> None:
    bounds = Bounds()

    def cluster(number: int) -> str:
        return bounds.kept(APP_DURATION, {"fedplane.cluster": f"c{number}"})["fedplane.cluster"]

    assert [cluster(number) for number in range(metrics.CLUSTERS_MAX)] == [f"c{number}" for number in range(metrics.CLUSTERS_MAX)]
    assert cluster(metrics.CLUSTERS_MAX) == OTHER
    assert cluster(0) == "c0"
    assert bounds.kept(CONTRIBUTIONS, {"fedplane.cluster": "new"}) == {"fedplane.cluster": "new"}, "each metric has bounds of its own"


def test_prometheus_is_told_units_and_kinds_by_suffixes() -> None:
    names = {metric.name: list(prometheus_names(metric)) for metric in METRICS}

    assert names["fedplane.rounds"] == ["fedplane_rounds_total"]
    assert names["fedplane.bulk.io"] == ["fedplane_bulk_io_bytes_total"]
    assert names["fedplane.work.backlog"] == ["fedplane_work_backlog"]
    assert names["fedplane.fold.duration"] == [f"fedplane_fold_duration_seconds_{part}" for part in ("bucket", "sum", "count")]


def test_every_core_that_may_be_behind_the_log_is_listed() -> None:
    cores = {
        node.name.lower()
        for source in tree()
        if source.path.endswith(".py") and "/fedplane/" in source.path
        for node in source.nodes
        if isinstance(node, ast.ClassDef) and node.name != "Core"
        if {"initial", "evolve", "decide"} <= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    }

    assert cores == set(LOG_LAG.attributes[0].values)
