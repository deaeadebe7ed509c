"""A round is one trace across every process that had a part in it, and what is counted is counted once, by real OTLP."""

import asyncio
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from machine_story import CLUSTERS, Machine, machine, resource_yaml, settle_environment
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from telemetry_story import Heard, attributes, listening, until

from fedplane.runtime.metrics import CONNECTIONS_REFUSED, DENIALS, METRICS
from fedplane.runtime.ports import Recorded
from fedplane.runtime.spans import SPANS, invite_traceparent, round_traceparent, run_traceparent
from fedplane.schemas.facts import Aggregated, Completed, Contributed, Failed, Invited, Opened, Submitted

pytestmark = pytest.mark.app

TRAIN = 1
"""The number of a run's first training round."""

HUB_ALONE = {"send work", "launch driver", "apply status"}
SERVERS_ALONE = {"run server", "ask clusters", "answer server", "reply", "round reply"}
STRATEGIES_ALONE = {"measure shard"}


@dataclass(frozen=True)
class Told:
    """A run's log, and what its processes told of it."""

    run: str
    log: list[Recorded]
    heard: Heard

    def of_round(self, number: int) -> list[Span]:
        return self.heard.trace(round_traceparent(self.run, number))


async def submit(it: Machine, **spec: Any) -> str:
    """As a person does, by the command."""
    file = it.directory / "run.yaml"
    file.write_text(resource_yaml(**spec))
    command = [sys.executable, "-m", "fedplane.cli.main", "submit", str(file), "--url", it.up.nats_url, "--insecure"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode().split()[0]


async def _told(directory: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Any, **spec: Any) -> Told:
    settle_environment(monkeypatch)
    async with listening(monkeypatch) as heard, machine(directory) as it:
        run = await submit(it, **spec)
        await meanwhile(it, run)
        await it.end_of(run)
        rounds = sum(isinstance(record.fact, Opened) for record in it.log)
        await until(lambda: len(heard.named("run")) == 1 and sum(span.name.startswith("round ") for span in heard.spans.values()) == rounds)
        await until(lambda: sum(heard.totals("fedplane.rounds").values()) == rounds and sum(heard.totals("fedplane.runs").values()) == 1)
        return Told(run, it.log, heard)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A run that nobody disturbs, with rounds that are long enough to be looked at."""

    async def wait(it: Machine, run: str) -> None:
        pass

    with pytest.MonkeyPatch.context() as monkeypatch:
        yield asyncio.run(_told(tmp_path_factory.mktemp("calm"), monkeypatch, wait, config={"seconds": 0.7}))


@pytest.fixture(scope="module")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """A run with an app that raises on one cluster. While the others train, their collaborator and an aggregator are killed."""

    async def kill(it: Machine, run: str) -> None:
        await it.until(
            run, lambda record: isinstance(record.fact, Invited) and (record.fact.round, record.fact.cluster) == (TRAIN, "gamma")
        )
        await asyncio.sleep(1.2)  # what was told before has been sent, and gamma trains
        it.up.kill("collaborator-gamma")
        it.up.kill("aggregator-0")

    spec = {"config": {"trouble": "raise at beta", "seconds": 2.5}, "rounds": {"attempts": 1}}
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield asyncio.run(_told(tmp_path_factory.mktemp("stormy"), monkeypatch, kill, **spec))


def children(spans: list[Span], traceparent: str) -> Counter[str]:
    return Counter(
        span.name for span in spans if span.parent_span_id.hex() == traceparent.split("-")[2] and not span.name.startswith("send ")
    )


def assert_whole(trace: list[Span], root: str) -> None:
    assert [span.span_id.hex() for span in trace if not span.parent_span_id] == [root.split("-")[2]]
    assert {span.parent_span_id for span in trace if span.parent_span_id} <= {span.span_id for span in trace}, "no span hangs in the air"


def test_a_round_is_one_tree_from_invitation_to_result(calm: Told) -> None:
    trace, root = calm.of_round(TRAIN), round_traceparent(calm.run, TRAIN)

    assert_whole(trace, root)
    below = children(trace, root)
    assert below.pop("write status") > 0
    shards = len(next(r.fact.model.shards for r in calm.log if isinstance(r.fact, Aggregated) and r.fact.round == TRAIN and r.fact.model))
    assert below == {"invite": len(CLUSTERS), "fold shard": shards, "assemble": 1}
    for cluster in CLUSTERS:
        invite = invite_traceparent(calm.run, TRAIN, cluster)
        assert children(trace, invite) == {"download model": 1, "train": 1, "upload update": 1}
        assert {attributes(span)["fedplane.cluster"] for span in trace if span.parent_span_id.hex() == invite.split("-")[2]
                if not span.name.startswith("send ")} == {cluster}  # fmt: skip


def test_a_round_links_to_its_run_and_says_what_came_of_it(calm: Told) -> None:
    (root,) = (span for span in calm.of_round(TRAIN) if not span.parent_span_id)
    told = attributes(root)

    assert [link.trace_id.hex() for link in root.links] == [run_traceparent(calm.run).split("-")[1]]
    assert {name: told[name] for name in told if name != "fedplane.run"} == {
        "fedplane.round": 1, "fedplane.task": "train", "fedplane.training_round": 1, "fedplane.clusters": 3, "fedplane.members": 3,
        "fedplane.outcome": "aggregated",
    }  # fmt: skip
    assert [(event.name, attributes(event)) for event in root.events] == [("closed", {"fedplane.message": "everyone answered"})]


def test_what_made_a_round_slow_can_be_read_from_its_trace(calm: Told) -> None:
    trace = calm.of_round(TRAIN)
    (root,) = (span for span in trace if not span.parent_span_id)
    spans = {name: [span for span in trace if span.name == name] for name in ("download model", "train", "upload update", "assemble")}
    last = {name: max(span.end_time_unix_nano for span in found) for name, found in spans.items()}

    assert root.start_time_unix_nano <= min(span.start_time_unix_nano for span in spans["download model"])
    assert last["download model"] < last["train"] < last["upload update"] < last["assemble"] == root.end_time_unix_nano
    train = max(spans["train"], key=lambda span: span.end_time_unix_nano - span.start_time_unix_nano)
    assert train.end_time_unix_nano - train.start_time_unix_nano > 0.5 * (root.end_time_unix_nano - root.start_time_unix_nano)


def test_the_runs_own_trace_has_what_is_about_no_round(calm: Told) -> None:
    trace, root = calm.heard.trace(run_traceparent(calm.run)), run_traceparent(calm.run)

    assert_whole(trace, root)
    below = children(trace, root)
    assert below.pop("write status") > 0
    assert below == {"submit": 1, "schedule": 1}
    (run,) = calm.heard.named("run")
    assert attributes(run) == {"fedplane.run": calm.run, "fedplane.outcome": "completed"}


def test_facts_carry_the_context_of_their_place(calm: Told) -> None:
    for record in calm.log:
        match record.fact:
            case Submitted() | Completed():
                assert record.traceparent == run_traceparent(calm.run)
            case Opened(round=round_):
                assert record.traceparent == round_traceparent(calm.run, round_)
            case Invited(round=round_, cluster=cluster):
                assert record.traceparent == invite_traceparent(calm.run, round_, cluster)
            case Contributed(round=round_):
                (sent,) = (span for span in calm.of_round(round_) if record.traceparent and span.span_id.hex() in record.traceparent)
                assert sent.name == "upload update"


def test_a_stated_fact_is_a_message_as_opentelemetry_describes_one(calm: Told) -> None:
    opened = next(record for record in calm.log if isinstance(record.fact, Opened) and record.fact.round == TRAIN)
    sent = next(span for span in calm.of_round(TRAIN) if attributes(span).get("messaging.message.id") == opened.id)

    assert (sent.name, sent.kind) == (f"send {Opened.template}", Span.SpanKind.SPAN_KIND_PRODUCER)
    assert attributes(sent) == {
        "messaging.system": "nats", "messaging.operation.name": "send", "messaging.operation.type": "send",
        "messaging.destination.name": opened.fact.subject, "messaging.destination.template": Opened.template,
        "messaging.message.id": opened.id, "cloudevents.event_type": Opened.type, "fedplane.run": calm.run, "fedplane.round": TRAIN,
    }  # fmt: skip


def test_a_trace_survives_the_death_of_those_who_had_a_part_in_it(stormy: Told) -> None:
    trace, root = stormy.of_round(TRAIN), round_traceparent(stormy.run, TRAIN)

    assert_whole(trace, root)
    assert children(trace, root)["invite"] == len(CLUSTERS)
    for cluster in CLUSTERS:
        assert children(trace, invite_traceparent(stormy.run, TRAIN, cluster))["train"] == 1, "what is killed has not been done"


def test_a_failure_is_an_event_with_its_reason_on_every_level(stormy: Told) -> None:
    def said(span: Span) -> tuple[int, list[tuple[str, str]]]:
        return span.status.code, [(event.name, attributes(event).get("error.type", "")) for event in span.events]

    trace = stormy.of_round(TRAIN)
    named = {(span.name, attributes(span).get("fedplane.cluster", "")): said(span) for span in trace if not span.name.startswith("send ")}
    error = Status.StatusCode.STATUS_CODE_ERROR

    assert named["train", "beta"] == (error, [("exception", "app-raised")])
    assert named["invite", "beta"] == (error, [("declined", "app-raised")])
    assert named["invite", "alpha"] == (Status.StatusCode.STATUS_CODE_UNSET, [])
    assert named["round train", ""] == (error, [("closed", ""), ("failed", "too-few")])
    (run,) = stormy.heard.named("run")
    assert said(run) == (error, [("failed", "RoundFailed")])
    assert isinstance(stormy.log[-1].fact, Failed)


def test_every_span_is_in_the_table_and_a_local_run_has_all_of_its_kind(calm: Told, stormy: Told) -> None:
    heard = {re.sub("^send .*", "send SUBJECT", span.name) for told in (calm, stormy) for span in told.heard.spans.values()}
    listed = {name for line in SPANS for name in line.name.split(", ")}

    assert heard <= listed
    assert listed - heard == HUB_ALONE | SERVERS_ALONE | STRATEGIES_ALONE


def test_every_span_says_which_run_and_round_it_is_about(calm: Told) -> None:
    for span in calm.heard.spans.values():
        assert attributes(span)["fedplane.run"] == calm.run
    for number in (0, 1, 2, 3, 4):
        assert {attributes(span).get("fedplane.round", number) for span in calm.of_round(number)} == {number}


def test_replicas_together_count_everything_once(calm: Told) -> None:
    def counted(name: str, *kept: str) -> Counter[tuple[str, ...]]:
        total: Counter[tuple[str, ...]] = Counter()
        for series, value in calm.heard.totals(name).items():
            total[tuple(dict(series).get(each, "") for each in kept)] += int(value)
        return total

    facts = Counter(type(record.fact).type for record in calm.log)
    told = {kind: value for (kind,), value in counted("fedplane.facts", "cloudevents.event_type").items() if kind in facts}
    ours = {kind: value for kind, value in facts.items() if not kind.endswith("submitted.v1")}  # a command counts nothing
    assert told == ours
    assert counted("fedplane.rounds", "fedplane.task", "fedplane.outcome") == {
        ("initialize", "aggregated"): 1, ("train", "aggregated"): 2, ("evaluate", "aggregated"): 2,
    }  # fmt: skip
    assert counted("fedplane.contributions", "fedplane.task", "fedplane.outcome") == {
        ("initialize", "accepted"): 1, ("train", "accepted"): 6, ("evaluate", "accepted"): 6,
    }  # fmt: skip
    assert counted("fedplane.app.duration", "fedplane.task", "fedplane.cluster") == {
        ("initialize", "alpha"): 1, **{(task, cluster): 2 for task in ("train", "evaluate") for cluster in CLUSTERS},
    }  # fmt: skip
    assert counted("fedplane.fold.duration") == {(): facts["io.fedplane.round.folded.v1"]}
    assert counted("fedplane.runs", "fedplane.outcome") == {("completed",): 1}


def test_refusals_are_counted_by_reason_and_cluster(stormy: Told) -> None:
    refused = [dict(series) for series in stormy.heard.totals("fedplane.contributions") if dict(series)["fedplane.outcome"] != "accepted"]

    assert refused == [{"fedplane.task": "train", "fedplane.outcome": "declined", "error.type": "app-raised", "fedplane.cluster": "beta"}]


def test_an_exemplar_leads_from_a_value_to_the_trace_of_its_round(calm: Told) -> None:
    rounds = {round_traceparent(calm.run, number).split("-")[1] for number in (1, 3)}
    points = [point for point in calm.heard.points("fedplane.contribution.duration") if attributes(point)["fedplane.task"] == "train"]

    assert {exemplar.trace_id.hex() for point in points for exemplar in point.exemplars} == rounds
    assert all(list(point.explicit_bounds) for point in points)


def test_every_attribute_is_told_by_a_run_but_that_of_servers_that_refuse(calm: Told, stormy: Told) -> None:
    told = {
        (name, each) for it in (calm, stormy) for name in it.heard.metrics for point in it.heard.points(name) for each in attributes(point)
    }

    assert {(metric.name, each.name) for metric in METRICS for each in metric.attributes} - told == {
        (DENIALS.name, "fedplane.server"),
        (CONNECTIONS_REFUSED.name, "error.type"),
    }


def test_every_metric_is_told_by_a_run_or_by_a_server_that_refuses(calm: Told, stormy: Told, nats_server, monkeypatch) -> None:
    nats_server.stop()
    nats_server.further = "authorization { user: somebody, password: else }"
    nats_server.start()

    async def refused() -> Heard:
        async with listening(monkeypatch) as heard:
            monkeypatch.setenv("FEDPLANE_NATS_URL", nats_server.url)
            monkeypatch.setenv("FEDPLANE_INSECURE", "true")
            scheduler = await asyncio.create_subprocess_exec(sys.executable, "-m", "fedplane.scheduler.main", stderr=subprocess.DEVNULL)
            await until(lambda: bool(heard.totals("fedplane.denials")))
            scheduler.kill()
            await scheduler.wait()
            return heard

    denied = asyncio.run(refused())
    assert [dict(series) for series in denied.totals("fedplane.denials")] == [{"fedplane.server": "nats"}]
    told = calm.heard.metrics.keys() | stormy.heard.metrics.keys() | denied.metrics.keys()
    said = {name for name in told if name.startswith("fedplane.")}
    assert said == {metric.name for metric in METRICS} - {CONNECTIONS_REFUSED.name}  # which an authorizer says, and here is none
