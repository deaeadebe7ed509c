"""Flower's own federation on this machine: a SuperLink, SuperNodes, and an app's run on them, from Flower's command line.

Everything is on loopback, without TLS, and in a directory of its own; nothing is reported or downloaded.
The programs are those of the environment in which the example app lives.
What the run's rounds took is written by the app itself; what it is compared with is the business of `superlink`.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

from aggregation import FLOWER_PYTHON
from watching import descendants

from fedplane.cli.orphans import command_line, die_with_parent

__all__ = ["FlowerFederation"]

START_SECONDS = 60.0
"""How long a SuperLink may take to listen: seconds, on a machine with nothing else to do."""

END_SECONDS = 10.0
"""How long its processes may take to end in order before they are killed."""

LOOK_SECONDS = 0.1
"""How often to look whether something has come of what was started."""


class FlowerFederation:
    """A SuperLink and its SuperNodes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = {
            **os.environ,
            "PATH": f"{FLOWER_PYTHON.parent}:{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(directory / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

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
            self._start("superlink", "--disable-runtime-dependency-installation", "--port", str(port))
            _wait_until_listening(port)
            for number, own in enumerate(others):
                node = ("--superlink", f"127.0.0.1:{port}", "--port", str(own), "--node-config", f"partition-id={number}")
                self._start(f"supernode {number}", *node)
            for own in others:
                _wait_until_listening(own)
            yield self
        finally:
            self._end()

    def play(self, app: Path, rounds: int, megabytes: int, seconds_max: float) -> list[float]:
        """Run the app of `apps/numbers`; what each of its rounds took, in seconds."""
        times = self._directory / "times"
        settings = f'megabytes={megabytes} rounds={rounds} times="{times}"'
        command = [FLOWER_PYTHON.parent / "flwr", "run", app, "bench", "--run-config", settings]
        submitted = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if submitted.returncode:
            raise RuntimeError(f"flwr run failed: {submitted.stdout}{submitted.stderr}")
        give_up = time.monotonic() + seconds_max
        written: list[str] = []
        while len(written) < rounds + 1:
            if time.monotonic() > give_up:
                raise TimeoutError(f"SuperLink has not done {rounds} rounds in {seconds_max:g} s; its logs:\n{self._last_words()}")
            time.sleep(LOOK_SECONDS)
            written = times.read_text().split() if times.exists() else []
        moments = [float(each) for each in written]
        return [after - before for before, after in pairwise(moments)]

    def _start(self, name: str, *arguments: str) -> None:
        program = FLOWER_PYTHON.parent / f"flower-{name.partition(' ')[0]}"
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [program, "--insecure", *arguments],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent(),  # noqa: PLW1509 -- asks, and does nothing else
            )  # fmt: skip

    def _end(self) -> None:
        """End those that were started here, and kill what they leave: a SuperLink starts others, in sessions of their own."""
        below = {pid: command_line(pid) for root in self.pids.values() for pid in descendants(root)}
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
