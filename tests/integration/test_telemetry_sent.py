"""What leaves a process by OTLP: whole traces or none, failures with their reasons, values within their bounds; and nothing if off."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from telemetry_story import Heard, attributes, listening, until

from fedplane.runtime import telemetry
from fedplane.runtime.errors import AppFailed
from fedplane.runtime.exporting import exporting
from fedplane.runtime.metrics import APP_DURATION, CLUSTERS_MAX, OTHER, ROUNDS, RUN_METRIC
from fedplane.runtime.otlp import Otlp
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.spans import Ended, round_traceparent
from fedplane.runtime.telemetry import observed, span, tell

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROUNDS_SEEN = 200
RATIO = 0.25


@pytest.fixture
async def heard(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Heard]:
    async with listening(monkeypatch) as it:
        yield it


async def test_processes_keep_the_same_traces_without_talking(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", str(RATIO))
    aggregator, collaborator = (Otlp(role, "0", TelemetrySettings()) for role in ("aggregator", "collaborator"))
    for number in range(ROUNDS_SEEN):
        root = round_traceparent("r", number)
        collaborator.emit(Ended("train", NOON, NOON, parent=root))
        collaborator.measure(APP_DURATION, 1.0, {}, root)
        aggregator.emit(Ended("round train", NOON, NOON, identity=root))
    await asyncio.gather(*(asyncio.to_thread(each.stop) for each in (aggregator, collaborator)))
    ids = [bytes.fromhex(round_traceparent("r", number).split("-")[1]) for number in range(ROUNDS_SEEN)]
    kept = {each for each in ids if int.from_bytes(each[8:]) < RATIO * 2**64}  # W3C's random part, as OpenTelemetry's sampler reads it
    await until(lambda: len(heard.spans) >= 2 * len(kept) and bool(heard.points(APP_DURATION.name)))

    rounds, trains = ({each.trace_id for each in heard.named(name)} for name in ("round train", "train"))
    assert rounds == trains == kept
    assert 0.5 * RATIO * ROUNDS_SEEN < len(rounds) < 1.5 * RATIO * ROUNDS_SEEN
    exemplars = {exemplar.trace_id for point in heard.points(APP_DURATION.name) for exemplar in point.exemplars}
    assert exemplars and exemplars <= rounds, "a value leads to no trace that was not kept"
    assert heard.totals(APP_DURATION.name) == {(): ROUNDS_SEEN}, "every value counts, whatever traces are kept"


async def test_a_span_says_why_its_block_failed_and_one_that_was_given_up_has_not_failed(heard: Heard) -> None:
    with exporting("collaborator", "0", TelemetrySettings()):
        with pytest.raises(AppFailed), span("failed"):
            raise AppFailed("app-raised", "the data has a column too few")
        with pytest.raises(OSError, match="disk"), span("broken"):
            raise OSError("no room on the disk")
        with pytest.raises(asyncio.CancelledError), span("given up"):
            raise asyncio.CancelledError
    await until(lambda: len(heard.spans) == 3)

    def said(name: str) -> tuple[int, list[tuple[str, dict[str, str]]]]:
        (it,) = heard.named(name)
        return it.status.code, [(event.name, attributes(event)) for event in it.events]

    failed = {"error.type": "app-raised", "exception.type": "AppFailed", "exception.message": "the data has a column too few"}
    broken = {"error.type": "OSError", "exception.type": "OSError", "exception.message": "no room on the disk"}
    assert said("failed") == (Status.StatusCode.STATUS_CODE_ERROR, [("exception", failed)])
    assert said("broken") == (Status.StatusCode.STATUS_CODE_ERROR, [("exception", broken)])
    assert said("given up") == (Status.StatusCode.STATUS_CODE_UNSET, [("given up", {})])


async def test_clusters_beyond_the_bound_share_one_series(heard: Heard) -> None:
    with exporting("collaborator", "0", TelemetrySettings()):
        for number in range(CLUSTERS_MAX + 7):
            tell(APP_DURATION, 1.0, {"fedplane.task": "train", "fedplane.cluster": f"c{number}"})
    await until(lambda: bool(heard.points(APP_DURATION.name)))

    totals = {dict(series)["fedplane.cluster"]: count for series, count in heard.totals(APP_DURATION.name).items()}
    assert len(totals) == CLUSTERS_MAX + 1
    assert totals[OTHER] == 7


async def test_a_gauge_is_told_as_long_as_somebody_knows_its_value(heard: Heard) -> None:
    with exporting("status", "0", TelemetrySettings()):
        with observed(RUN_METRIC, lambda: [(0.5, {"fedplane.run": "r", "fedplane.metric": "loss"})]):
            await until(lambda: bool(heard.points(RUN_METRIC.name)))
        tell(ROUNDS)
        heard.metrics.clear()
        await until(lambda: bool(heard.points(ROUNDS.name)))

        assert heard.points(RUN_METRIC.name) == []


async def test_a_round_of_thousands_of_clusters_is_told_whole(heard: Heard) -> None:
    clusters = 5_000
    with exporting("aggregator", "0", TelemetrySettings()):
        telemetry.emit(Ended("invite", NOON, NOON, parent=round_traceparent("r", 1)) for _ in range(clusters))
    await until(lambda: len(heard.spans) == clusters)

    assert {span.name for span in heard.spans.values()} == {"invite"}


@pytest.mark.parametrize(("variable", "left_out"), [("OTEL_TRACES_EXPORTER", "spans"), ("OTEL_METRICS_EXPORTER", "metrics")])
async def test_either_kind_can_be_left_out(heard: Heard, monkeypatch: pytest.MonkeyPatch, variable: str, left_out: str) -> None:
    monkeypatch.setenv(variable, "none")
    with exporting("status", "0", TelemetrySettings()), span("shown") as shown:
        tell(ROUNDS)
        assert (shown.traceparent is None) == (left_out == "spans")
    await until(lambda: bool(heard.spans or heard.metrics))

    assert (bool(heard.spans), bool(heard.metrics)) == (left_out != "spans", left_out != "metrics")


def test_without_an_endpoint_context_is_passed_on_and_opentelemetry_is_not_even_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with exporting("status", "0", TelemetrySettings()), span("shown", parent=round_traceparent("r", 1)) as shown:
        assert (shown.traceparent, telemetry.is_on()) == (round_traceparent("r", 1), False)

    roles = ("scheduler", "aggregator", "status", "collaborator", "collaborator.driver", "cli")
    mains = ", ".join(f"fedplane.{role}.main" for role in roles)
    check = f"import sys, {mains}; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("OTEL_TRACES_SAMPLER", "jaeger_remote", "pattern"), ("OTEL_TRACES_SAMPLER_ARG", "1.5", "less than or equal to 1")],
)
def test_a_sampler_that_there_is_none_of_ends_the_process_with_the_variables_name(variable: str, value: str, said: str) -> None:
    read = "from fedplane.runtime.settings import *; read(TelemetrySettings)"
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, env={variable: value}, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {variable}: ")
    assert said in done.stderr
