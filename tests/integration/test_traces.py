"""A round is one trace, across every process that had a part in it, whoever looks with OpenTelemetry."""

import asyncio
import socket

import pytest
from machine_story import CLUSTERS, machine, settle_environment
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from fedplane.runtime.telemetry import round_traceparent, run_traceparent
from fedplane.schemas.facts import Completed, Contributed, Opened, Submitted

pytestmark = pytest.mark.app

EXPORTED_SECONDS = 15


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def spans_of_a_run(tmp_path, monkeypatch: pytest.MonkeyPatch, enough, **spec):
    """Every span that was exported, once there are enough, and the log of the run."""
    port = free_port()
    settle_environment(monkeypatch)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    spans: list[Span] = []
    settings = OtelTapHttpProtobufReceiverSettings(
        http_port=port,
        listen_on_all_interfaces=False,
        print_traces_as_ndjson=False,
        print_logs_as_ndjson=False,
        print_metrics_as_ndjson=False,
    )
    async with OtelTapHttpProtobufReceiver(settings) as receiver:

        async def collect() -> None:
            async for span in receiver.stream_traces():
                if span.span_id not in {known.span_id for known in spans}:  # an exporter that hears no answer sends a batch again
                    spans.append(span)

        collecting = asyncio.create_task(collect())
        async with machine(tmp_path) as it:
            run = await it.submit(**spec)
            await it.end_of(run)
            async with asyncio.timeout(EXPORTED_SECONDS):
                while not enough(spans):
                    await asyncio.sleep(0.1)
        collecting.cancel()
        return run, spans, it.log


def of_trace(spans: list[Span], traceparent: str) -> list[Span]:
    return [span for span in spans if span.trace_id.hex() == traceparent.split("-")[1]]


def attribute(span: Span, name: str):
    found = next((it.value for it in span.attributes if it.key == name), None)
    return None if found is None else (found.string_value or found.int_value)


async def test_a_round_is_one_connected_trace_across_all_processes(tmp_path, monkeypatch) -> None:
    def enough(spans: list[Span]) -> bool:
        return sum(span.name == "round train" for span in spans) == 2

    run, spans, log = await spans_of_a_run(tmp_path, monkeypatch, enough)
    assert isinstance(log[-1].fact, Completed)
    root = round_traceparent(run, 1)
    trace = of_trace(spans, root)
    ids = {span.span_id.hex() for span in trace}
    roots = [span for span in trace if not span.parent_span_id]

    assert [span.name for span in roots] == ["round train"]
    assert roots[0].span_id.hex() == root.split("-")[2]
    assert {span.parent_span_id.hex() for span in trace if span.parent_span_id} <= ids, "no span hangs in the air"
    assert "write status" in {span.name for span in trace}
    for name in ("download model", "train", "upload update"):
        assert sorted(str(attribute(span, "fedplane.cluster")) for span in trace if span.name == name) == sorted(CLUSTERS)
    folds = [span for span in trace if span.name.startswith("fold shard")]
    assert {attribute(span, "fedplane.members") for span in folds} == {len(CLUSTERS)}
    begin, end = roots[0].start_time_unix_nano, roots[0].end_time_unix_nano
    assert all(begin - 1e6 <= span.start_time_unix_nano <= span.end_time_unix_nano for span in trace)
    assert all(span.end_time_unix_nano <= end + 1e6 for span in trace if span.name in ("download model", "train", "upload update"))


async def test_facts_carry_the_context_of_their_round_and_the_round_links_to_its_run(tmp_path, monkeypatch) -> None:
    def enough(spans: list[Span]) -> bool:
        return {"round train", "run", "schedule", "write status"} <= {span.name for span in spans}

    run, spans, log = await spans_of_a_run(tmp_path, monkeypatch, enough, server={"rounds": 1, "minAvailableClients": 3})
    opened = next(record for record in log if isinstance(record.fact, Opened) and record.fact.round == 1)
    contributed = [record for record in log if isinstance(record.fact, Contributed) and record.fact.round == 1]
    submitted = next(record for record in log if isinstance(record.fact, Submitted))
    (root,) = (span for span in spans if span.name == "round train")

    assert opened.traceparent == round_traceparent(run, 1)
    assert {record.traceparent.split("-")[1] for record in contributed if record.traceparent} == {opened.traceparent.split("-")[1]}
    assert submitted.traceparent == run_traceparent(run)
    assert [link.trace_id.hex() for link in root.links] == [run_traceparent(run).split("-")[1]]
    whole = of_trace(spans, run_traceparent(run))
    assert {span.name for span in whole} >= {"run", "schedule", "write status"}
    (run_span,) = (span for span in whole if span.name == "run")
    assert {span.parent_span_id for span in whole if span is not run_span} == {run_span.span_id}


async def test_a_failed_round_is_marked_as_failed_in_its_trace(tmp_path, monkeypatch) -> None:
    def enough(spans: list[Span]) -> bool:
        return any(span.name == "round train" for span in spans)

    config = {"trouble": "raise at beta"}
    policy = {"attempts": 1}
    _, spans, _ = await spans_of_a_run(tmp_path, monkeypatch, enough, config=config, rounds=policy)
    (root,) = (span for span in spans if span.name == "round train")

    assert root.status.code == Status.StatusCode.STATUS_CODE_ERROR
    assert "beta declined" in root.status.message
