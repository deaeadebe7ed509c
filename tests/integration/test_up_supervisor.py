"""Processes that crash, that will not end, that leave others behind: tiny scripts, really started and really killed."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from apiserver import free_port

from fedplane.cli.logs import Logs
from fedplane.cli.orphans import command_line
from fedplane.cli.supervisor import PATIENCE, Patience, Process, Stages, Supervisor
from fedplane.runtime.errors import Unavailable

IMPATIENT = Patience(delay_seconds_min=0.01, delay_seconds_max=0.04, restarts_max=3, window_seconds=60)

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stubborn'); time.sleep(60)"
PARENT = "import subprocess, time; print(subprocess.Popen(['sleep', '60']).pid); time.sleep(60)"


def _script(name: str, source: str, port: int | None = None) -> Process:
    return Process(name, (sys.executable, "-ISuc", source), port=port)


@asynccontextmanager
async def _supervised(
    folder: Path, stages: Stages, *, patience: Patience = IMPATIENT, restart: bool = True, stop_seconds: float = 5.0
) -> AsyncIterator[tuple[Supervisor, list[tuple[str, str]]]]:
    said: list[tuple[str, str]] = []
    supervisor = Supervisor(
        stages,
        Logs(folder),
        patience=patience,
        restart=restart,
        stop_seconds=stop_seconds,
        say=lambda name, what: said.append((name, what)),
    )
    try:
        await supervisor.start()
        yield supervisor, said
    finally:
        await supervisor.stop()


async def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def _output_of(supervisor: Supervisor, name: str) -> str:
    """What a script says when it is ready: until then it may not yet be what it is going to be."""
    await _until(lambda: supervisor.logs.last_lines(name))
    return supervisor.logs.last_lines(name)


async def test_a_process_that_is_killed_is_started_again_and_the_others_go_on(tmp_path: Path):
    async with _supervised(tmp_path, [[_script("a", SLEEPER), _script("b", SLEEPER)]]) as (supervisor, said):
        before = dict(supervisor.pids)
        os.kill(before["a"], signal.SIGKILL)
        await _until(lambda: supervisor.pids.get("a") not in {None, before["a"]})

        after = dict(supervisor.pids)
        assert after["b"] == before["b"]
        assert said == [
            ("a", f"started, pid {before['a']}"),
            ("b", f"started, pid {before['b']}"),
            ("a", "died (signal 9); starting again in 0.0 s"),
            ("a", f"started, pid {after['a']}"),
        ]


async def test_without_restart_a_process_that_dies_stays_dead(tmp_path: Path):
    async with _supervised(tmp_path, [[_script("a", SLEEPER), _script("b", "raise SystemExit(7)")]], restart=False) as (supervisor, said):
        await _until(lambda: said[-1] == ("b", "died (exit status 7)"))

        assert list(supervisor.pids) == ["a"]


async def test_a_process_that_cannot_live_is_given_up_with_its_last_words(tmp_path: Path):
    async with _supervised(tmp_path, [[_script("a", SLEEPER), _script("b", "print('first'); print('no disk'); raise SystemExit(3)")]]) as (
        supervisor,
        said,
    ):
        with pytest.raises(Unavailable) as given_up:
            await asyncio.wait_for(supervisor.wait(), 20)

        words = "\n".join(["first", "no disk"] * 4)
        assert str(given_up.value) == f"b died 4 times, at last with exit status 3; its last words, from {tmp_path / 'b.log'}:\n{words}"
        assert [what for name, what in said if name == "b" and what.startswith("died")] == [
            "died (exit status 3); starting again in 0.0 s" for _ in range(3)
        ]


async def test_stages_are_ended_in_the_opposite_order_of_their_start(tmp_path: Path):
    stages = [[_script("bus", SLEEPER)], [_script("service", SLEEPER)], [_script("cluster", SLEEPER)]]
    async with _supervised(tmp_path, stages) as (supervisor, said):
        pids = dict(supervisor.pids)

    assert [name for name, what in said if what.startswith("started")] == ["bus", "service", "cluster"]
    assert [name for name, what in said if what == "ended"] == ["cluster", "service", "bus"]
    assert [command_line(pid) for pid in pids.values()] == ["", "", ""]


async def test_a_process_that_ignores_sigterm_is_killed_when_its_grace_is_over(tmp_path: Path):
    async with _supervised(tmp_path, [[_script("a", STUBBORN)]], stop_seconds=0.1) as (supervisor, said):
        pid = supervisor.pids["a"]
        await _output_of(supervisor, "a")

    assert said == [("a", f"started, pid {pid}"), ("a", "did not end within 0.1 s and was killed"), ("a", "ended")]
    assert command_line(pid) == ""


async def test_whoever_is_asked_twice_to_stop_kills_at_once(tmp_path: Path):
    pid = 0

    async def run() -> None:
        nonlocal pid
        async with _supervised(tmp_path, [[_script("a", STUBBORN)]], stop_seconds=60) as (supervisor, _):
            await _output_of(supervisor, "a")
            pid = supervisor.pids["a"]
            await supervisor.wait()

    running = asyncio.create_task(run())
    await _until(lambda: pid)
    running.cancel()
    await asyncio.sleep(0.02)
    assert command_line(pid) != ""
    running.cancel()
    await asyncio.wait([running], timeout=20)

    assert running.cancelled()
    assert command_line(pid) == ""


async def test_what_a_process_leaves_behind_dies_with_it(tmp_path: Path):
    async with _supervised(tmp_path, [[_script("a", PARENT)]], restart=False) as (supervisor, _):
        grandchild = int(await _output_of(supervisor, "a"))
        await _until(lambda: command_line(grandchild).startswith("sleep"))  # from its start on it takes a moment to become that
        assert command_line(grandchild) == "sleep 60 "
        os.kill(supervisor.pids["a"], signal.SIGKILL)

        await _until(lambda: command_line(grandchild) == "")


async def test_a_process_that_dies_before_it_is_ready_is_not_tried_again(tmp_path: Path, unused_tcp_port: int):
    with pytest.raises(Unavailable, match=r"(?s)^bus died before it was ready; its last words, from .*bus\.log:\naddress in use$"):
        async with _supervised(tmp_path, [[_script("bus", "raise SystemExit('address in use')", port=unused_tcp_port)]], patience=PATIENCE):
            pytest.fail("it was ready")


async def test_a_program_that_is_not_there_ends_the_start_and_whatever_had_been_started(tmp_path: Path):
    stages = [[_script("a", SLEEPER)], [Process("b", (str(tmp_path / "none"),))]]
    with pytest.raises(Unavailable, match=r"^cannot start b: .*none: No such file or directory$"):
        async with _supervised(tmp_path, stages):
            pytest.fail("it was started")

    assert [line for line in _processes() if str(tmp_path) in line] == []


async def test_a_start_that_is_cancelled_leaves_no_process_behind(tmp_path: Path, unused_tcp_port: int):
    mark = str(tmp_path)
    stages = [[Process("never-ready", (sys.executable, "-ISc", SLEEPER, mark), port=unused_tcp_port)], [_script("a", SLEEPER)]]

    async def run() -> None:
        async with _supervised(tmp_path, stages):
            pytest.fail("it was ready")

    for delay_seconds in (0, 0.001, 0.005, 0.02, 0.1):
        running = asyncio.create_task(run())
        await asyncio.sleep(delay_seconds)
        running.cancel()
        await asyncio.wait([running], timeout=20)

        assert running.cancelled()
        assert [line for line in _processes() if mark in line] == []


def _processes() -> list[str]:
    return [command_line(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]


KEEPER = """
import asyncio, json, sys, pathlib
from fedplane.cli.logs import Logs
from fedplane.cli.supervisor import Process, Supervisor

async def main():
    processes = [Process(name, tuple(command)) for name, command in json.loads(sys.argv[2]).items()]
    supervisor = Supervisor([processes], Logs(pathlib.Path(sys.argv[1])))
    await supervisor.start()
    print(json.dumps(supervisor.pids), flush=True)
    await supervisor.wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel does this; elsewhere the next start does it")
def test_when_the_supervisor_itself_is_killed_nothing_outlives_it(tmp_path: Path):
    commands = {"a": [sys.executable, "-ISc", SLEEPER], "b": [sys.executable, "-ISuc", STUBBORN]}
    with subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), json.dumps(commands)], stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        pids = json.loads(keeper.stdout.readline())
        while not Logs(tmp_path).last_lines("b"):
            time.sleep(0.005)
        assert [command_line(pid) != "" for pid in pids.values()] == [True, True]

        keeper.kill()

    deadline = time.monotonic() + 20
    while any(command_line(pid) for pid in pids.values()):
        assert time.monotonic() < deadline, "a process outlived its supervisor"
        time.sleep(0.005)


STARTING = """
import http.server
asked = 0
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        self.send_response(200 if self.path == "/started" and asked > 2 else 503)
        self.end_headers()
        print(f"asked {{asked}}", flush=True)
http.server.HTTPServer(("127.0.0.1", {port}), Answer).serve_forever()
"""


async def test_the_next_stage_waits_until_a_process_says_that_it_has_started(tmp_path: Path):
    port = free_port()
    first = Process("first", (sys.executable, "-ISuc", STARTING.format(port=port)), health_port=port)
    async with _supervised(tmp_path, [[first], [_script("second", SLEEPER)]]) as (supervisor, said):
        await _until(lambda: "asked 3" in supervisor.logs.path("first").read_text())
        assert [name for name, what in said if what.startswith("started")] == ["first", "second"]
