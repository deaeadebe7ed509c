"""What both sides of the secure-aggregation benchmark share: one case, the same updates, and what a client's work took.

Each side is a program of its own in an environment of its own; this module needs nothing but numpy, so that it can be imported in both.
A case is a line of JSON in the first argument, the answer a line of JSON on the output.
Memory is what a process held at most beyond what it held before, from /proc: a client's update is there before its work begins.
"""

import ctypes
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["EXAMPLES", "Answer", "Case", "Stopwatch", "answer", "mean", "update"]

MB = 1_000_000

SCALE = 0.02
"""How far a weight moves: what a little local training does."""

EXAMPLES = 1_000
"""How many examples each client has. As many as count at most by Flower's default, since its integers are the finest then."""


@dataclass(frozen=True, slots=True)
class Case:
    """One round of secure aggregation. The first `measured` clients do all of their work, and the last `missing` drop out after sharing."""

    elements: int
    clients: int
    neighbours: int
    threshold: int
    measured: int
    missing: int

    @property
    def whole(self) -> bool:
        """Whether every client that stays masks an update of its own, so that the result can be checked."""
        return self.measured + self.missing == self.clients


@dataclass(frozen=True, slots=True)
class Answer:
    """What a round took: of a client medians, of the server sums. `apart` is how far the mean is from the right one, if it can be known."""

    client_seconds: float
    client_megabytes: float
    client_bytes: float
    server_seconds: float
    apart: float | None


@dataclass
class Stopwatch:
    """Seconds and megabytes of each measured client, over all of its steps."""

    seconds: dict[int, float] = field(default_factory=dict)
    megabytes: dict[int, float] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def working(self, client: int) -> Iterator[None]:
        """That client works."""
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier client has freed goes back to the system: each is a process of its own elsewhere
        Path("/proc/self/clear_refs").write_text("5")  # the most that was resident is forgotten, see proc(5)
        before, begun = _resident("VmRSS"), time.perf_counter()
        yield
        self.seconds[client] = self.seconds.get(client, 0.0) + time.perf_counter() - begun
        self.megabytes[client] = max(self.megabytes.get(client, 0.0), _resident("VmHWM") - before)

    def sends(self, client: int, size: int) -> None:
        self.sent[client] = self.sent.get(client, 0) + size

    def answer(self, measured: int, server_seconds: float, apart: float | None) -> Answer:
        """Of the measured clients, which are the first ones."""
        seconds, megabytes, sent = (
            statistics.median(each[client] for client in range(measured)) for each in (self.seconds, self.megabytes, self.sent)
        )
        return Answer(seconds, megabytes, sent, server_seconds, apart)


def _resident(name: str) -> float:
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024 / MB


def update(client: int, elements: int) -> np.ndarray:
    """What the client's training changed, and for Flower, which masks whole models, a model that was zero before."""
    return np.random.default_rng(client).standard_normal(elements, dtype=np.float32) * np.float32(SCALE)


def mean(case: Case) -> np.ndarray:
    """What the round should find: the mean of those who stay, who count the same."""
    stay = range(case.clients - case.missing)
    return np.asarray(sum(update(client, case.elements).astype(np.float64) for client in stay) / len(stay))


def answer(play: Callable[[Case], Answer]) -> None:
    """Play the case of the command line. Whatever a side prints is no answer."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    output.write(json.dumps(asdict(play(Case(**json.loads(sys.argv[1]))))) + "\n")
    output.flush()
