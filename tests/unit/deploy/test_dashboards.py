"""The dashboards fit Grafana's schema, and ask for what there is: series, labels, spans and attributes of the services' own tables.

That a real run says every one of them is shown by `test_traces`, and for nats-server's at the end of this file.
"""

import functools
import json
import operator
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import NatsServer
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from observed_story import BUS, GRAFANA, drawing, filled_in, kept, known, nodes, objections, strangers, unspoken

from fedplane.runtime.nats import open_bus
from fedplane.runtime.nats.streams import WORK, Limits

DRAWING = drawing()
PAGES: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").iterdir())}
PANELS = [(page, panel) for page in PAGES.values() for panel in page["panels"]]
SERIES = [(panel, target) for _, panel in PANELS for target in panel["targets"] if "expr" in target]
TRACES = [(panel, target) for _, panel in PANELS for target in panel["targets"] if "query" in target]
(METRICS, SPANS) = yaml.safe_load((GRAFANA / "provisioning/datasources/fedplane.yaml").read_text())["datasources"]

every_page = pytest.mark.parametrize("name", PAGES)


def test_the_files_are_what_the_table_makes() -> None:
    drawn: dict[Any, str] = DRAWING["files"]()

    assert {path: path.read_text() for path in drawn} == drawn, "run: make schemas"
    assert {path.stem for path in drawn if path.suffix == ".json"} == PAGES.keys()


@every_page
def test_grafanas_own_types_read_a_dashboard_and_write_it_back_unchanged(name: str) -> None:
    register_default_plugins()

    assert json.loads(JSONEncoder().encode(Dashboard.from_json(PAGES[name]))) == PAGES[name]


@every_page
def test_what_the_schema_does_not_have_is_found(name: str) -> None:
    register_default_plugins()
    panel, *others = PAGES[name]["panels"]
    page = {**PAGES[name], "panels": [{**panel, "colour": "red"}, *others]}

    assert json.loads(JSONEncoder().encode(Dashboard.from_json(page))) == PAGES[name] != page


def test_every_query_asks_for_series_and_labels_that_there_are() -> None:
    strange = {target["expr"]: list(strangers(target["expr"], known())) for _, target in SERIES}

    assert len(strange) > 30
    assert {query: said for query, said in strange.items() if said} == {}


def test_prometheus_itself_understands_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": filled_in(target["expr"])} for number, (_, target) in enumerate(SERIES)]

    assert objections(tmp_path, "check", "rules", "queries.yaml", queries={"groups": [{"name": "queries", "rules": rules}]}) == ""


def test_the_first_event_of_a_counter_is_seen_and_no_event_is_seen_twice(tmp_path: Path) -> None:
    (failures,) = (target["expr"] for panel, target in SERIES if panel["title"] == "Failures, by reason")
    counter = 'fedplane_runs_total{fedplane_outcome="failed", error_type="RoundFailed", instance="%s"}'
    reason = '{error_type="RoundFailed"}'
    series = [
        {"series": counter % "steady", "values": "_x5 1x10"},  # counts its first in the fifth minute
        {"series": counter % "killed", "values": "_x7 2x2"},  # counts two in the seventh, and is heard for two more
    ]
    grown = {"4m": [], "5m": [1], "6m": [0], "7m": [2], "8m": [0], "10m": [0], "15m": [0]}
    expected = [
        {"expr": filled_in(failures), "eval_time": at, "exp_samples": [{"labels": reason, "value": each} for each in by]}
        for at, by in grown.items()
    ]
    case = {"interval": "1m", "input_series": series, "promql_expr_test": expected}
    assert objections(tmp_path, "test", "rules", "cases.yaml", cases={"tests": [case]}) == ""


def test_every_metric_is_on_a_dashboard() -> None:
    asked = {node.name for _, target in SERIES for node in nodes(target["expr"]) if type(node).__name__ == "VectorSelector"}

    assert {name for name in known() if name.startswith("fedplane") and not name.endswith(("_sum", "_bucket", "_count"))} <= asked
    assert {name for name in known() if name.endswith("_bucket")} <= asked


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sum(fedplane_rnds_total)", "there is no series fedplane_rnds_total"),
        ('fedplane_rounds_total{fedplane_tsk="train"}', "fedplane_rounds_total has no label fedplane_tsk"),
        ('fedplane_rounds_total{fedplane_task="tran"}', "fedplane_rounds_total has no fedplane_task 'tran'"),
        ("sum by (fedplane_cluster) (fedplane_rounds_total)", "no series in it has the label fedplane_cluster"),
    ],
)
def test_a_query_for_what_nobody_says_is_found(query: str, said: str) -> None:
    assert list(strangers(query, known())) == [said]


def test_a_legend_names_labels_that_the_answer_has() -> None:
    for panel, target in SERIES:
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        labels = kept(target["expr"])
        assert labels is None or named <= labels, panel["title"]


def test_every_search_for_traces_asks_for_spans_and_attributes_that_there_are() -> None:
    strange = {target["query"]: list(unspoken(target["query"])) for _, target in TRACES}

    assert len(strange) > 3
    assert {query: said for query, said in strange.items() if said} == {}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ('{ name = "rnd" }', ["no span is called rnd"]),
        ('{ name = "invite" && span.fedplane.shard = "1" }', ["invite has no attribute fedplane.shard"]),
        ('{ name =~ "round .*" } | select(span.fedplane.bytes)', ["round .* has no attribute fedplane.bytes"]),
    ],
)
def test_a_search_for_what_no_span_says_is_found(query: str, said: list[str]) -> None:
    assert list(unspoken(query)) == said


@pytest.mark.parametrize("query", ['{ name = "run" && }', '{ name = "run"', '{ nme = "run" }', '{ name = "run" } | count() > 2'])
def test_a_search_that_is_not_written_as_we_write_it_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="not TraceQL"):
        list(unspoken(query))


@every_page
def test_a_panel_has_a_number_a_place_and_words_about_what_to_do(name: str) -> None:
    panels = PAGES[name]["panels"]
    cells = [(x, y) for each in panels for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"]) for y in
             range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])]  # fmt: skip

    assert [each["id"] for each in panels] == list(range(1, len(panels) + 1))
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24, "no panel covers another"
    assert [each["title"] for each in panels if len(each["description"]) < 40 or not each["description"].endswith(".")] == []


@every_page
def test_what_a_dashboard_varies_by_is_declared_there(name: str) -> None:
    page = PAGES[name]
    declared = {each["name"] for each in page["templating"]["list"]}
    asked = json.dumps([panel["targets"] for panel in page["panels"]])

    assert {each["datasource"]["uid"] for each in page["panels"]} <= {"${metrics}", "${traces}"}
    assert set(re.findall(r"\$(?!__)(\w+)", asked)) | {"metrics", "traces"} == declared


def test_only_durations_lead_to_traces_and_all_of_them_do() -> None:
    assert [target["expr"] for _, target in SERIES if target.get("exemplar", False) != ("_bucket" in target["expr"])] == []


def test_a_dot_leads_to_its_trace_and_a_span_to_its_metrics() -> None:
    assert (METRICS["type"], SPANS["type"]) == ("prometheus", "tempo")
    assert METRICS["jsonData"]["exemplarTraceIdDestinations"] == [{"name": "trace_id", "datasourceUid": SPANS["uid"]}]
    back = SPANS["jsonData"]["tracesToMetrics"]
    assert back["datasourceUid"] == METRICS["uid"]
    assert [list(strangers(each["query"], known())) for each in back["queries"]] == [[], []]


async def test_nats_server_says_every_number_that_the_bus_dashboard_shows(nats_server: NatsServer) -> None:
    nats_server.stop()
    nats_server.further = 'http: "127.0.0.1:-1"'
    nats_server.start()
    (ports,) = (json.loads(file.read_text()) for file in (nats_server.directory / "ports").iterdir())

    def told(path: str) -> Any:
        with urllib.request.urlopen(f"{ports['monitoring'][0]}/{path}") as answer:
            return json.load(answer)

    async with open_bus(nats_server.url, name="test", source="/fedplane/test", limits=Limits()):
        jsz = told("jsz?consumers=true&config=true")
    work = next(each for each in jsz["account_details"][0]["stream_detail"] if each["name"] == WORK)
    places = {"varz": told("varz"), "jsz": jsz, "stream": work, "consumer": work["consumer_detail"][0]}

    for metric, (place, *path) in BUS.items():
        assert isinstance(functools.reduce(operator.getitem, path, places[place]), int), metric
