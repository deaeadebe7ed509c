"""A supervisor that asks a real service how it is hears the truth, also while the bus is away and while the process hangs."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apiserver import free_port
from conftest import NatsServer

PATIENCE_SECONDS = 20
SILENCE_SECONDS = 0.5


@pytest.fixture(params=["scheduler", "aggregator", "status"])
def service(request: pytest.FixtureRequest, nats_server: NatsServer, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    environment = os.environ | {"FEDPLANE_NATS_URL": nats_server.url, "FEDPLANE_INSECURE": "true", "FEDPLANE_HEALTH_PORT": str(port)}
    log = (tmp_path / "service.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", f"fedplane.{request.param}.main"], env=environment, stderr=log)
    yield process, port
    process.kill()
    process.wait()


def ask(port: int, path: str) -> int | None:
    """The status, or None if nobody answers in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SILENCE_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def becomes(wanted: int | None, question: Callable[[], int | None]) -> bool:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (heard := question()) != wanted and time.monotonic() < give_up:
        time.sleep(0.05)
    return heard == wanted


def test_a_service_is_ready_while_it_has_its_bus_and_live_while_it_does_not_hang(
    service: tuple[subprocess.Popen[bytes], int], nats_server: NatsServer
) -> None:
    process, port = service
    assert becomes(200, lambda: ask(port, "/ready"))

    nats_server.kill()
    assert becomes(503, lambda: ask(port, "/ready"))
    assert becomes(200, lambda: ask(port, "/live"))

    nats_server.start()
    assert becomes(200, lambda: ask(port, "/ready"))

    process.send_signal(signal.SIGSTOP)
    assert ask(port, "/live") is None
    process.send_signal(signal.SIGCONT)
    assert becomes(200, lambda: ask(port, "/live"))
