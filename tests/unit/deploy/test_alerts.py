"""The alert rules are what Prometheus understands, ask for what there is, and fire when they should and not otherwise.

Prometheus' own `promtool` works the cases out. Debian's package `prometheus` has it, and so has every release of Prometheus.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from observed_story import GRAFANA, known, objections, strangers
from sources import ROOT

GROUPS = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"]: dict.fromkeys(("job",)) for rule in RULES if "record" in rule}
FIRING = {rule["alert"]: rule for rule in RULES if "alert" in rule}

every_alert = pytest.mark.parametrize("name", FIRING)


def test_every_rule_asks_for_series_and_labels_that_there_are() -> None:
    strange = {rule.get("alert", rule.get("record")): list(strangers(rule["expr"], {**known(), **RECORDED})) for rule in RULES}

    assert strange == {name: [] for name in (*RECORDED, *FIRING)}


@every_alert
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = FIRING[name]

    assert rule["labels"] in ({"severity": "info"}, {"severity": "warning"}, {"severity": "critical"})
    assert set(rule["annotations"]) == {"summary", "do"}
    assert all(said.endswith((".", "}}.")) for said in rule["annotations"].values())


def test_the_page_lists_every_alert_as_severe_as_it_is() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/how-to/see-it-in-grafana.md").read_text(), re.MULTILINE)

    assert listed == [(name, rule["labels"]["severity"]) for name, rule in FIRING.items()]


def test_the_operators_manifest_has_the_same_rules() -> None:
    manifest = yaml.safe_load((GRAFANA / "prometheusrule.yaml").read_text())

    assert (manifest["kind"], manifest["spec"]) == ("PrometheusRule", {"groups": GROUPS})


RUNNING = 'fedplane_active_runs{fedplane_phase="Running", job="fedplane/status", instance="0"}'
ROUNDS = 'fedplane_rounds_total{fedplane_task="train", fedplane_outcome="aggregated", instance="0"}'
FAILED = 'fedplane_runs_total{fedplane_outcome="failed", error_type="RoundFailed", instance="0"}'
ACCEPTED = 'fedplane_contributions_total{fedplane_outcome="accepted", instance="0"}'
DECLINED = 'fedplane_contributions_total{fedplane_outcome="declined", fedplane_cluster="beta", error_type="app-raised", instance="0"}'
LAG = 'fedplane_log_lag{job="fedplane/aggregator", fedplane_core="runs", instance="%s"}'
WAITING = 'fedplane_work_backlog{fedplane_state="waiting", instance="0"}'
STORED, ROOM = 'jetstream_server_total_message_bytes{server_name="nats"}', 'jetstream_server_max_storage{server_name="nats"}'

# What happened, minute by minute in Prometheus' notation (`0x5` five more of the same, `_x5` five times nothing), when one looks, and
# the labels of what fires. A counter that is not there before its first event is the usual case.
CASES: dict[str, tuple[str, dict[str, str], str, list[dict[str, str]]]] = {
    "a run whose rounds do not end is stuck": ("RunStuck", {RUNNING: "0x10 1x200", ROUNDS: "3x210"}, "150m", [{}]),
    "a run is stuck if no round has ever ended": ("RunStuck", {RUNNING: "0x10 1x200"}, "150m", [{}]),
    "a run whose rounds end is not stuck": ("RunStuck", {RUNNING: "0x10 1x200", ROUNDS: "3+0x100 4x110"}, "150m", []),
    "a federation's first round is progress": ("RunStuck", {RUNNING: "1x200", ROUNDS: "_x100 1x100"}, "150m", []),
    "runs that come and go are not stuck": ("RunStuck", {RUNNING: "1x60 0x5 1x200", ROUNDS: "3x260"}, "150m", []),
    "a run that waits for long": ("RunWaits", {RUNNING.replace("Running", "Waiting"): "1x60"}, "40m", [{}]),
    "a run that waits shortly": ("RunWaits", {RUNNING.replace("Running", "Waiting"): "1x20 0x40"}, "15m", []),
    "the first failure that is ever counted": ("RunFailed", {FAILED: "_x20 1x20"}, "25m", [{"error_type": "RoundFailed"}]),
    "a further failure": ("RunFailed", {FAILED: "2x20 3x20"}, "25m", [{"error_type": "RoundFailed"}]),
    "a failure of long ago": ("RunFailed", {FAILED: "2x60"}, "40m", []),
    "many refusals": ("ContributionsRefused", {ACCEPTED: "0+1x60", DECLINED: "0+1x60"}, "50m", [{}]),
    "few refusals among many answers": ("ContributionsRefused", {ACCEPTED: "0+10x60", DECLINED: "0+1x60"}, "50m", []),
    "one refusal of two answers": ("ContributionsRefused", {ACCEPTED: "_x30 1x30", DECLINED: "_x30 1x30"}, "50m", []),
    "a permission that is missing": (
        "PermissionDenied", {'fedplane_denials_total{job="fedplane/status", fedplane_server="kubernetes"}': "_x5 1x20"}, "10m",
        [{"job": "fedplane/status", "fedplane_server": "kubernetes"}],
    ),
    "shards that wait and wait": ("BacklogStays", {WAITING: "5x30"}, "20m", [{}]),
    "shards that are folded": ("BacklogStays", {WAITING: "5x10 0x1 5x20"}, "20m", []),
    "a replica that cannot keep up": (
        "ReplicaBehind", {LAG % 0: "2000x20", LAG % 1: "3x20"}, "10m", [{"job": "fedplane/aggregator", "instance": "0"}],
    ),
    "a service without replicas": ("ServiceGone", {LAG % 0: "0x30 _x30"}, "40m", [{"job": "fedplane/aggregator"}]),
    "a service that lost one of two": ("ServiceGone", {LAG % 0: "0x30 _x30", LAG % 1: "0x60"}, "40m", []),
    "one is left of two": ("ReplicaMissing", {LAG % 0: "0x30 _x30", LAG % 1: "0x60"}, "40m", [{"job": "fedplane/aggregator"}]),
    "two are left of three": ("ReplicaMissing", {LAG % 0: "0x30 _x30", LAG % 1: "0x60", LAG % 2: "0x60"}, "40m", []),
    "one that was always alone": ("ReplicaMissing", {LAG % 0: "0x60"}, "40m", []),
    "a store that is nearly full": ("BusStoreFills", {STORED: "90x30", ROOM: "100x30"}, "20m", [{"server_name": "nats"}]),
    "a store without a bound": ("BusStoreFills", {STORED: "90x30", ROOM: "0x30"}, "20m", []),
    "an exporter that is not there": (
        "BusUnseen", {'up{job="nats", instance="nats-exporter:7777"}': "1x5 0x20"}, "10m",
        [{"job": "nats", "instance": "nats-exporter:7777"}],
    ),
}  # fmt: skip


def test_every_alert_has_cases() -> None:
    assert {alert for alert, *_ in CASES.values()} == FIRING.keys()


def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    cases = {"rule_files": ["alerts.yaml"], "tests": [case(name) for name in CASES]}

    assert objections(tmp_path, "test", "rules", "cases.yaml", alerts={"groups": GROUPS}, cases=cases) == ""


def case(name: str) -> dict[str, Any]:
    """A case as promtool wants it. What is said besides labels is a matter of words, and left out here as it is there."""
    alert, series, at, fired = CASES[name]
    rule = FIRING[alert]
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count by (alertname, {', '.join(sorted({label for labels in fired for label in labels} | {'severity'}))}) "
                f'(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                "eval_time": at,
                "exp_samples": [
                    {"labels": "{" + ", ".join(f'{key}="{value}"' for key, value in told.items()) + "}", "value": 1}
                    for told in ({"alertname": alert, **rule["labels"], **labels} for labels in fired)
                ],
            }
        ],
    }
