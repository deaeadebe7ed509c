"""A real status service serves the page on a real bus, and so does a process that does nothing else."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from apiserver import free_port
from conftest import NatsServer
from status_story import Story

from fedplane.runtime.nats import Limits, open_bus
from fedplane.schemas import facts

S = Story()
PATIENCE_SECONDS = 20
BEGUN = [S.submitted(), S.waiting(), S.scheduled(), S.started(), S.opened(4, 1, 1), S.contributed(5, 1, "hospital-a")]
OFFER = facts.Advertised(at=S.at(0), cluster="hospital-a", lease_seconds=15, claims={"data": "/a"}, allocatable={"cpu": "4"})


@contextmanager
def serving(module: str, url: str, log: Path, **settings: str) -> Iterator[int]:
    """The port of a process that serves the page."""
    port = free_port()
    environment = os.environ | {"FEDPLANE_NATS_URL": url, "FEDPLANE_INSECURE": "true", "FEDPLANE_PAGE_PORT": str(port), **settings}
    with log.open("ab") as said, subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=said) as process:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while status(port, "/api/runs") != 200:
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
        try:
            yield port
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0, log.read_text()


def ask(port: int, path: str, **headers: str) -> HTTPResponse:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    answer: HTTPResponse = urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS)
    return answer


def status(port: int, path: str) -> int | None:
    try:
        with ask(port, path) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def read(port: int, path: str) -> Any:
    with ask(port, path) as answer:
        return json.load(answer)


def event(stream: HTTPResponse) -> tuple[str, dict[str, Any]]:
    """The next one: its id, and what it says."""
    said: dict[str, str] = {}
    while line := stream.readline().decode().rstrip("\n"):
        name, _, value = line.partition(": ")
        said[name] = value
    return (said["id"], json.loads(said["data"])) if "id" in said else event(stream)


def lines(news: dict[str, Any]) -> list[str]:
    return [line["kind"] for line in news["lines"]]


async def test_the_page_follows_a_run_and_whoever_was_away_goes_on_with_another_replica(nats_server: NatsServer, tmp_path: Path) -> None:
    async with open_bus(nats_server.url, name="test", source="/test", limits=Limits()) as bus:
        for fact in (*BEGUN, OFFER):
            await bus.log.state(fact)

        with serving("fedplane.status.main", nats_server.url, tmp_path / "status.log", FEDPLANE_TRACE_URL="http://t/{trace_id}") as port:
            assert status(port, "/") == 200
            assert [status(port, path) for path in ("/../settings.py", "/%2e%2e/main.py", "/api/runs/x", "/api/runs//placement", "/x")] == [
                404
            ] * 5
            run = read(port, f"/api/runs/{S.run}")
            assert (run["phase"], run["rounds_held"][0]["outcomes"]) == ("Running", {"answered": 1, "working": 1})
            assert run["trace"].startswith("http://t/") and len(run["trace"]) == len("http://t/") + 32
            assert run["trace"] != run["rounds_held"][0]["trace"]
            assert [each["outcome"] for each in read(port, f"/api/runs/{S.run}/rounds/1")["clusters"]] == ["answered", "working"]
            assert len(read(port, f"/api/runs/{S.run}/placement")["clusters"]) == 3
            (offer,) = read(port, "/api/fleet")
            assert (offer["cluster"], offer["claims"], offer["heard_at"]) == ("hospital-a", {"data": "/a"}, S.at(0).isoformat())
            with ask(port, "/events") as stream:
                _, first = event(stream)
                assert (first["there"], [each["run"] for each in first["runs"]]) == ({"runs": [S.run], "clusters": ["hospital-a"]}, [S.run])
                assert lines(first) == ["submitted", "waiting", "scheduled", "started", "opened", "contributed"]
                await bus.log.state(S.declined(6, 1, "hospital-b"))
                place, second = event(stream)
                assert (lines(second), second["clusters"], second["gone"]) == (["declined"], [], [])

        await bus.log.state(S.closed(7, 1))
        before = await bus.views.all()
        with serving("fedplane.status.page.main", nats_server.url, tmp_path / "page.log") as port:
            with ask(port, "/events", **{"Last-Event-ID": place}) as stream:
                _, missed = event(stream)
                assert not missed["anew"]
                assert (lines(missed), [each["run"] for each in missed["runs"]], missed["clusters"]) == (["closed"], [S.run], [])
            with ask(port, "/events", **{"Last-Event-ID": "from another log"}) as stream:
                _, everything = event(stream)
                assert (everything["anew"], len(lines(everything))) == (True, 8)
            assert read(port, f"/api/runs/{S.run}")["trace"] == ""
        assert await bus.views.all() == before, "who only looks shows nothing to others"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "FEDPLANE_PAGE_PORT: Field required"),
        ({"FEDPLANE_PAGE_PORT": "1", "FEDPLANE_TRACE_URL": "javascript:x"}, "FEDPLANE_TRACE_URL: "),
    ],
)
def test_a_page_that_is_told_nonsense_says_so(settings: dict[str, str], expected: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "fedplane.status.page.main"], env=os.environ | settings, capture_output=True, text=True, check=False
    )

    assert (told.returncode, expected in told.stderr) == (2, True)
