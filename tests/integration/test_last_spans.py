"""A process that ends does not wait for those who would take its last spans."""

import socket
import subprocess
import sys
import time

from fedplane.runtime.telemetry import STOP_SECONDS

LAST_SPAN = """
import sys
from fedplane.runtime import telemetry
telemetry.start("test", "0", sys.argv[1])
with telemetry.span("the last one"):
    pass
telemetry.stop()
"""


def test_a_collector_that_takes_connections_and_never_answers_delays_the_end_by_seconds_at_most() -> None:
    with socket.socket() as collector:
        collector.bind(("127.0.0.1", 0))
        collector.listen()
        begin = time.monotonic()
        subprocess.run([sys.executable, "-c", LAST_SPAN, f"http://127.0.0.1:{collector.getsockname()[1]}"], check=True)

        assert time.monotonic() - begin < STOP_SECONDS * 2
