"""Flower's own federation on this machine: a SuperLink, SuperNodes, and an app's run on them, from Flower's command line.

Everything is on loopback, without TLS, and in a directory of its own; nothing is reported or downloaded.
The programs are those of the environment in which the example app lives.
What the run's rounds took and what they came to is written by the app itself; what it is compared with is the business of `frameworks`.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from aggregation import FLOWER_PYTHON
from played import APP, Played
from watching import descendants

from fedplane.cli.orphans import command_line, die_with_parent

__all__ = ["FlowerFederation"]

START_SECONDS = 60.0
"""How long a SuperLink may take to listen: seconds, on a machine with nothing else to do."""

END_SECONDS = 10.0
"""How long its processes may take to end in order before they are killed."""

LOOK_SECONDS = 0.1
"""How often to look whether something has come of what was started."""

ASK_SECONDS = 2.0
"""How often to ask Flower for a run's state: its command line needs most of a core for a second to say it."""

SLEEPLESS = Path(__file__).parent / "sleepless"
SLEEPLESS_ENVIRONMENT = {"PYTHONPATH": str(SLEEPLESS), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.02"}
"""What Flower's processes are told so that they wait less: one sleep has a setting, the others have none."""


class FlowerFederation:
    """A SuperLink and its SuperNodes: as installed, or with their sleeps cut. With a database it keeps on disk what it knows."""

    def __init__(self, directory: Path, *, sleepless: bool = False, database: bool = False) -> None:
        self._directory = directory
        self._link = ["--disable-runtime-dependency-installation", *(["--database", str(directory / "state.db")] if database else [])]
        self._environment = {
            **os.environ,
            "PATH": f"{FLOWER_PYTHON.parent}:{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(directory / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            **(SLEEPLESS_ENVIRONMENT if sleepless else {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._orphans: dict[int, str] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that were started here; others are below them."""
        return {name: process.pid for name, process in self._processes.items()}

    @contextmanager
    def running(self, nodes: int) -> Iterator["FlowerFederation"]:
        """Start it, and end it with all its processes."""
        home = self._directory / "home"
        home.mkdir(parents=True)
        port, *others = _free_ports(nodes + 1)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        try:
            self._link += ["--port", str(port)]
            self._start("superlink", *self._link)
            _wait_until_listening(port)
            for number, own in enumerate(others):
                node = ("--superlink", f"127.0.0.1:{port}", "--port", str(own), "--node-config", f"partition-id={number}")
                self._start(f"supernode {number}", *node)
            for own in others:
                _wait_until_listening(own)
            yield self
        finally:
            self._end()

    def play(self, kilobytes: int, rounds: int, seconds_max: float) -> Played:
        """Run the app of `apps/numbers` to its end."""
        record = self._submit(kilobytes, rounds)
        self._wait_for(record / "done", seconds_max)
        moments = [float(each) for each in (record / "times").read_text().split()]
        return Played([after - before for before, after in pairwise(moments)], [np.load(file) for file in sorted(record.glob("*.npy"))])

    def fate(self, killed: str, kilobytes: int, rounds: int, seconds_max: float) -> tuple[str, float]:
        """What Flower says of a run in whose first round a server was killed, and how many seconds later it first says that it is over.

        A ServerApp is Flower's to start again. The SuperLink is started again here.
        """
        self._wait_for(self._submit(kilobytes, rounds) / "times", seconds_max)
        below = _with_commands(self.pids["superlink"])
        begun = time.monotonic()
        if killed == "SuperLink":
            self._orphans = below
            self._processes["superlink"].kill()
            self._processes["superlink"].wait()
            self._start("superlink", *self._link)
        else:
            for pid in (pid for pid, command in below.items() if "flwr-serverapp" in command):
                os.kill(pid, signal.SIGKILL)
        while not (status := self._status()).startswith("finished"):
            if time.monotonic() - begun > seconds_max:
                return status or "unknown", time.monotonic() - begun
            time.sleep(ASK_SECONDS)
        return status, time.monotonic() - begun

    def _submit(self, kilobytes: int, rounds: int) -> Path:
        """Ask for a run. Returns the folder in which the app keeps its record."""
        record = self._directory / "record"
        record.mkdir()
        self._flwr("run", str(APP), "bench", "--run-config", f'kilobytes={kilobytes} rounds={rounds} record="{record}"')
        return record

    def _status(self) -> str:
        """What Flower says of its only run; nothing while it cannot say."""
        runs = json.loads(self._flwr("ls", "bench", "--format", "json")).get("runs")  # while the SuperLink is not up, an error and no runs
        return str(runs[0]["status"]) if runs else ""

    def _flwr(self, *arguments: str) -> str:
        command = [str(FLOWER_PYTHON.parent / "flwr"), *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"flwr {arguments[0]} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def _wait_for(self, file: Path, seconds_max: float) -> None:
        give_up = time.monotonic() + seconds_max
        while not file.exists():
            if time.monotonic() > give_up:
                raise TimeoutError(f"SuperLink's run has written no {file.name} in {seconds_max:g} s; its logs:\n{self._last_words()}")
            time.sleep(LOOK_SECONDS)

    def _start(self, name: str, *arguments: str) -> None:
        program = FLOWER_PYTHON.parent / f"flower-{name.partition(' ')[0]}"
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program, "--insecure", *arguments],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent(),  # noqa: PLW1509 -- asks, and does nothing else
            )  # fmt: skip

    def _end(self) -> None:
        """End those that were started here, and kill what they leave: a SuperLink starts others, in sessions of their own."""
        below = {**self._orphans, **{pid: command for root in self.pids.values() for pid, command in _with_commands(root).items()}}
        for process in reversed(self._processes.values()):
            process.terminate()
        give_up = time.monotonic() + END_SECONDS
        while left := [pid for pid, command in below.items() if command and command_line(pid) == command]:
            if time.monotonic() > give_up:
                for pid in left:
                    with suppress(ProcessLookupError):  # it has ended in this moment
                        os.kill(pid, signal.SIGKILL)
                break
            for process in self._processes.values():
                process.poll()
            time.sleep(0.05)
        for process in self._processes.values():
            process.wait()

    def _last_words(self) -> str:
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1000:]}" for file in sorted(self._directory.glob("*.log")))


def _with_commands(root: int) -> dict[int, str]:
    return {pid: command_line(pid) for pid in descendants(root)}


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment; Flower's programs must be told theirs."""
    holding = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in holding]
    finally:
        for each in holding:
            each.close()


def _wait_until_listening(port: int) -> None:
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > give_up:
                raise TimeoutError(f"nothing listens on port {port} after {START_SECONDS:g} s") from error
            time.sleep(LOOK_SECONDS)
        else:
            return
