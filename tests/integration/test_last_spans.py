"""A process does not wait for those who would take its spans and values, and says it once if nobody does."""

import socket
import subprocess
import sys
import time

from fedplane.runtime.otlp import STOP_SECONDS

LAST_SPAN = """
import time
from fedplane.runtime.exporting import exporting
from fedplane.runtime.metrics import DENIALS
from fedplane.runtime.settings import TelemetrySettings
from fedplane.runtime.telemetry import span, tell
with exporting("test", "0", TelemetrySettings()), span("the last one"):
    tell(DENIALS)
    print(time.monotonic())
"""


def test_a_collector_that_takes_connections_and_never_answers_delays_the_end_by_seconds_at_most() -> None:
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        collector.listen()
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.getsockname()[1]}"}
        said = subprocess.run([sys.executable, "-c", LAST_SPAN], env=told, capture_output=True, text=True, check=True)

        assert time.monotonic() - float(said.stdout.split()[0]) < STOP_SECONDS * 2, "a machine has one such clock for all processes"


def test_a_collector_that_is_away_is_said_to_be_so_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{nobody.getsockname()[1]}"}
        said = subprocess.run([sys.executable, "-c", LAST_SPAN], env=told, capture_output=True, text=True, check=True)

    assert (said.stdout.count("telemetry is not sent as it should be"), said.stdout.count("\n"), said.stderr) == (1, 2, "")
