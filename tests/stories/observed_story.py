"""What dashboards and alert rules ask: read with parsers, and compared with what the services say and with what nats-server says.

PromQL is read by `promql-parser`, Prometheus' grammar in Rust. There is no parser of TraceQL for Python.
The grammar below is ours, of the few forms that the dashboards use; Grafana's own grammar has read the same queries, once, by hand.
"""

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml
from conftest import missing
from sources import ROOT

from fedplane.runtime.metrics import METRICS, Attribute, prometheus_names
from fedplane.runtime.spans import SPANS

GRAFANA = ROOT / "deploy/grafana"
RESOURCE = {"job", "instance"}
"""What Prometheus makes of a message's resource; `le` is a histogram's."""

BUILT_IN = {"$__interval": "1m", "$__rate_interval": "1m", "$$__tags": 'fedplane_cluster="c"'}
"""What Grafana puts in."""

BUS: dict[str, tuple[str, ...]] = {
    "gnatsd_varz_connections": ("varz", "connections"),
    "gnatsd_varz_in_bytes": ("varz", "in_bytes"),
    "gnatsd_varz_mem": ("varz", "mem"),
    "gnatsd_varz_out_bytes": ("varz", "out_bytes"),
    "gnatsd_varz_slow_consumers": ("varz", "slow_consumers"),
    "jetstream_consumer_num_pending": ("consumer", "num_pending"),
    "jetstream_server_max_storage": ("jsz", "config", "max_storage"),
    "jetstream_server_total_message_bytes": ("jsz", "bytes"),
    "jetstream_stream_total_bytes": ("stream", "state", "bytes"),
    "jetstream_stream_total_messages": ("stream", "state", "messages"),
}
"""Of the metrics that natsio/prometheus-nats-exporter makes, those that are asked for, and which number of nats-server each one is.

Sources: collector/collector.go and collector/jsz.go of its repository; the exporter itself is not run here.
"""

BUS_LABELS = {"server_id", "server_name", "stream_name", "consumer_name"}


def drawing() -> dict[str, Any]:
    """The module that draws; it imports its table from beside itself, as a script does."""
    sys.path.insert(0, str(GRAFANA))
    try:
        return runpy.run_path(str(GRAFANA / "draw.py"))
    finally:
        sys.path.remove(str(GRAFANA))


def known() -> Mapping[str, Mapping[str, Attribute | None]]:
    """Every series there may be, by its name in Prometheus, with its labels."""
    ours = {
        name: {
            **{re.sub(r"\W", "_", attribute.name): attribute for attribute in metric.attributes},
            **dict.fromkeys(RESOURCE | ({"le"} if name.endswith("_bucket") else set())),
        }
        for metric in METRICS
        for name in prometheus_names(metric)
    }
    return {**ours, **dict.fromkeys(BUS, dict.fromkeys(BUS_LABELS | RESOURCE)), "up": dict.fromkeys(RESOURCE)}


def filled_in(query: str) -> str:
    """The query as Grafana asks it, of a graph whose points stand for a minute."""
    for variable, value in BUILT_IN.items():
        query = query.replace(variable, value)
    return query


def nodes(query: str) -> list[Any]:
    found: list[Any] = []
    promql.walk(promql.parse(filled_in(query)), found.append)
    return found


def objections(directory: Path, *words: str, **documents: Any) -> str:
    """What Prometheus' own tool has to say against these files, each of which is written as `NAME.yaml`: nothing if it agrees."""
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("there is no promtool to work out what Prometheus would; see CONTRIBUTING.md")
    for name, document in documents.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump(document))
    said = subprocess.run([promtool, *words], cwd=directory, capture_output=True, text=True, check=False)
    return said.stdout + said.stderr if said.returncode else ""


def strangers(query: str, series: Mapping[str, Mapping[str, Attribute | None]]) -> Iterator[str]:
    """What a query names that nobody says: series, labels, and values of labels that are listed."""
    labels: set[str] = set()
    for node in nodes(query):
        if isinstance(node, promql.VectorSelector):
            if node.name not in series:
                yield f"there is no series {node.name}"
                continue
            labels |= series[node.name].keys()
            for matcher in node.matchers.matchers:
                yield from _strange(node.name, matcher, series[node.name])
    for node in nodes(query):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            yield from (f"no series in it has the label {label}" for label in node.modifier.labels if label not in labels)


def _strange(name: str, matcher: promql.Matcher, labels: Mapping[str, Attribute | None]) -> Iterator[str]:
    if matcher.name not in labels:
        yield f"{name} has no label {matcher.name}"
        return
    attribute = labels[matcher.name]
    exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    if attribute and attribute.values and exact and matcher.value not in attribute.values:
        yield f"{name} has no {matcher.name} {matcher.value!r}"


def kept(query: str) -> set[str] | None:
    """The labels that the answer of a query has, or None if it has all that its series have."""
    tops = [node for node in nodes(query) if isinstance(node, promql.AggregateExpr)]
    return set(tops[0].modifier.labels) if tops and tops[0].modifier else None


NAME = r"[a-z][\w.]*"
CONDITION = re.compile(
    rf"""name \s* (?P<likeness>=~?) \s* "(?P<span>[^"]+)"
    | status \s* = \s* error
    | duration \s* > \s* (?:\d+(?:ms|s|m|h)|\$\w+)
    | span\.(?P<attribute>{NAME}) \s* !?= \s* "[^"]*" """,
    re.VERBOSE,
)
SPANSET = re.compile(rf"\{{ (?P<conditions>.+) \}}(?: \| select\((?P<shown>span\.{NAME}(?:, span\.{NAME})*)\))?")


def unspoken(query: str) -> Iterator[str]:
    """What a TraceQL query names that no span says. Raises ValueError if it is of none of the forms that are known here."""
    spanset = SPANSET.fullmatch(query)
    conditions = [CONDITION.fullmatch(each.strip()) for each in spanset["conditions"].split("&&")] if spanset else [None]
    if spanset is None or None in conditions:
        raise ValueError(f"not TraceQL as we write it: {query}")
    (asked,) = [each for each in conditions if each and each["span"]]
    pattern = asked["span"] if asked["likeness"] == "=~" else re.escape(asked["span"])
    lines = [line for line in SPANS if any(re.fullmatch(pattern, name) for name in line.name.split(", "))]
    attributes = {"fedplane.run", "fedplane.round", *(attribute for line in lines for attribute in line.attributes)}
    shown = [each.removeprefix("span.") for each in (spanset["shown"] or "").split(", ") if each]
    if not lines:
        yield f"no span is called {asked['span']}"
    for attribute in (*shown, *(each["attribute"] for each in conditions if each and each["attribute"])):
        if attribute not in attributes:
            yield f"{asked['span']} has no attribute {attribute}"
