"""What telling costs: a round with nothing to move and nothing to train, with telemetry off, with traces, and with metrics as well.

The rounds are those of `control`, where the plane's own work is all there is, so this is the most that telemetry can add to any round.
Everything is received by a process that throws it away. The three ways take turns, each on a server of its own.
Beside that, what one call costs when there is no endpoint: that is what everybody pays.
"""

import multiprocessing
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import uvloop
from control import measure
from measuring import Report, Server, options, scratch, usage
from simulated import quiet

from fedplane.runtime.exporting import exporting
from fedplane.runtime.metrics import APP_DURATION
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.spans import round_traceparent
from fedplane.runtime.telemetry import span, tell

WAYS = {
    "off": {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    "traces": {"OTEL_METRICS_EXPORTER": "none"},
    "traces and metrics": {},
}
"""What is told, by the variables that say so."""

ROUNDS_SMOKE, TURNS_SMOKE = {2: 4}, 1
ROUNDS_QUICK, TURNS_QUICK = {2: 60, 30: 10}, 3
ROUNDS, TURNS = {2: 200, 30: 40, 300: 10}, 5
"""How many rounds are measured in a turn, by the number of clusters, and how many turns each way has."""

CALLS_SMOKE, CALLS = 1_000, 100_000

INTERVAL_MILLISECONDS = 1_000
"""Ten times as often as by default, so that sending is part of what is measured."""

BAR_NANOSECONDS = 2_000.0
"""Of one call without an endpoint: a round makes about ten for each answer, and a fact costs a hundred times as much to state."""

BAR_RATIO = 1.5
"""Of a round with everything told to one with nothing: what such a round has more of is milliseconds, and nobody waits for those."""


class _Sink(BaseHTTPRequestHandler):
    """Takes what is sent and says that it is well."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Not to a person."""


@contextmanager
def sink() -> Iterator[str]:
    """A collector that keeps nothing, in a process of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    serving = multiprocessing.get_context("fork").Process(target=_serve, args=(port,), daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.terminate()
        serving.join()


def _serve(port: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # that is how its parent ends it, and no reason to say anything
    ThreadingHTTPServer(("127.0.0.1", port), _Sink).serve_forever()


def turn(directory: Path, endpoint: str, way: str, clusters: int, rounds: int) -> tuple[list[float], float]:
    """How long each round took, and the CPU seconds of the plane for each, in one way."""
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": INTERVAL_MILLISECONDS, **WAYS[way]}
    with Server(directory).running() as server, exporting("bench", "0", TelemetrySettings(**told)):
        before = usage(os.getpid()).cpu_seconds
        times = uvloop.run(measure(server, clusters, rounds))
        return times, (usage(os.getpid()).cpu_seconds - before) / (rounds + 1)


def call_nanoseconds(call: Callable[[], None], calls: int) -> float:
    """The least of five times, which is the one that others disturbed least."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - begun) / calls)
    return 1e9 * min(times)


def a_value() -> None:
    """Tell a value, as the code does that has one."""
    tell(APP_DURATION, 1.0, {"fedplane.task": "train", "fedplane.cluster": "a"})


def a_span() -> None:
    """A span around nothing."""
    with span("train", parent=PARENT, attributes={"fedplane.cluster": "a"}):
        pass


PARENT = round_traceparent("run", 1)


def calls_of(report: Report, calls: int, endpoint: str) -> None:
    """What a call costs, off and on."""
    off = {"a value": call_nanoseconds(a_value, calls), "a span": call_nanoseconds(a_span, calls)}
    with exporting("bench", "0", TelemetrySettings(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)):
        on = {"a value": call_nanoseconds(a_value, calls // 10), "a span": call_nanoseconds(a_span, calls // 10)}
    report.table("one call, ns", ("", "off", "on"), [(what, off[what], on[what]) for what in off])
    report.bar("a value or a span without an endpoint, ns", max(off.values()), at_most=BAR_NANOSECONDS)


def main() -> None:
    """Measure and report."""
    told = options(__doc__ or "")
    report = Report(
        "telemetry", "what a real collector costs; the network; aggregator, scheduler and clusters share one process and one exporter"
    )
    quiet()
    rounds = ROUNDS_SMOKE if told.smoke else ROUNDS_QUICK if told.quick else ROUNDS
    turns = TURNS_SMOKE if told.smoke else TURNS_QUICK if told.quick else TURNS
    times: dict[tuple[int, str], list[float]] = {}
    cpu: dict[tuple[int, str], list[float]] = {}
    with scratch() as directory, sink() as endpoint:
        calls_of(report, CALLS_SMOKE if told.smoke else CALLS, endpoint)
        for clusters, count in rounds.items():
            for number in range(turns):
                for way in WAYS:
                    taken, spent = turn(directory / f"{clusters}-{number}-{way}", endpoint, way, clusters, count)
                    times.setdefault((clusters, way), []).extend(taken)
                    cpu.setdefault((clusters, way), []).append(spent)
    for clusters in rounds:
        medians = {way: statistics.median(times[clusters, way]) for way in WAYS}
        rows = [
            (
                way, len(times[clusters, way]), 1 / medians[way], 1e3 * medians[way], medians[way] / medians["off"],
                1e3 * statistics.median(cpu[clusters, way]),
            )
            for way in WAYS
        ]  # fmt: skip
        report.table(f"a round of {clusters} clusters", ("telemetry", "rounds", "rounds/s", "median ms", "of off", "CPU ms"), rows)
    few = min(rounds)
    ratio = statistics.median(times[few, "traces and metrics"]) / statistics.median(times[few, "off"])
    report.bar(f"a round of {few} clusters with traces and metrics, times one without", ratio, at_most=BAR_RATIO)
    report.finish(told)


if __name__ == "__main__":
    main()
