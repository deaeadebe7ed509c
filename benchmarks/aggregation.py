"""What the aggregation benchmarks share: the same updates for all sides, the peers in their own processes, our fold.

A peer lives in an environment of its own, so a second process measures it, on updates made by the same few lines (`peering`).
The sides take turns, and ratios are of medians: whatever slows the machine slows all of them.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from peering import updates

from fedplane.aggregator.reading import MEMBERS_AT_ONCE
from fedplane.aggregator.shards import ShardFold
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy
from fedplane.aggregator.team import Job, Team
from fedplane.schemas.digests import Hashing
from fedplane.schemas.layout import Layout, cut, parse_header

__all__ = [
    "CHUNK_BYTES", "FLOWER", "FLOWER_PYTHON", "NVFLARE", "OPENFL", "PEERS", "SHARD_BYTES", "Answer", "Peer", "fold", "layout_of",
    "medians", "seconds", "updates",
]  # fmt: skip

SHARD_BYTES, CHUNK_BYTES = 16_000_000, 1_000_000
"""The aggregator's defaults."""

HERE = Path(__file__).parent
FLOWER_PYTHON = HERE.parent / "examples" / "01-mnist" / ".venv" / "bin" / "python"
PEER_ENVIRONMENTS = HERE.parent / ".fedplane" / "peers"

FLOWER, NVFLARE, OPENFL = "Flower", "NVFlare", "OpenFL"
PEERS = {
    FLOWER: (FLOWER_PYTHON, HERE / "flwr_aggregation.py"),
    NVFLARE: (PEER_ENVIRONMENTS / "nvflare" / "bin" / "python", HERE / "nvflare_aggregation.py"),
    OPENFL: (PEER_ENVIRONMENTS / "openfl" / "bin" / "python", HERE / "openfl_aggregation.py"),
}
"""Each peer's Python, and the program that it runs. `make app` makes the first one, `make peers` the others."""


def layout_of(elements: int) -> Layout:
    body = json.dumps({"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}).encode()
    return parse_header(len(body).to_bytes(8, "little") + body)


def fold(
    team: Team, strategy: Strategy, coefficients: Coefficients, layout: Layout, members: Sequence[memoryview], *, digests: bool = False
) -> list[bytes]:
    """Every shard of the next model, as `folding` drives a fold, from bytes that have arrived. Returns the first bytes of each shard."""
    begun = []
    for begin, end in cut(layout.bytes, SHARD_BYTES):
        folding = ShardFold(strategy, coefficients, layout, (begin, end), CHUNK_BYTES)
        hashings = [Hashing() for _ in members]
        for chunk, (low, high) in enumerate(folding.chunks):
            for first in range(0, len(members), MEMBERS_AT_ONCE):
                arrived = [update[begin + low : begin + high] for update in members[first : first + MEMBERS_AT_ONCE]]
                hashing: list[Job] = [partial(each.update, data) for each, data in zip(hashings[first:], arrived, strict=False)]
                team.do((hashing if digests else []) + folding.add(chunk, first, arrived))
        assert len({each.digest for each in hashings}) == (len(members) if digests else 1)
        begun.append(bytes(folding.out[:4096]))
        del folding  # before the next one is made, as between two tasks
    return begun


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer says of one aggregation: seconds of each step, and whose update the result is. The steps are said in `peering`."""

    verifying: float
    loading: float
    aggregating: float
    chosen: list[int]


class Peer:
    """A peer in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        python, program = PEERS[name]
        if not python.exists():
            sys.exit(f"{name} has no environment; `make {'app' if name == FLOWER else 'peers'}` makes it")
        self._process = subprocess.Popen(
            [python, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    @staticmethod
    def is_there(name: str) -> bool:
        """Whether it has an environment."""
        return PEERS[name][0].exists()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, strategy: str, members: int, elements: int, spread: float, tensor: int) -> None:
        """How long does it take? `tensor` is how many elements a tensor of the model has."""
        assert self._process.stdin is not None
        question = {"strategy": strategy, "members": members, "elements": elements, "spread": spread, "tensor": tensor}
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        """Its answer to the question."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} died of the question; to see why, ask {PEERS[self.name][1].name} by hand")
        said = json.loads(line)
        return Answer(**said["seconds"], chosen=said["chosen"])


def medians(samples: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds."""
    return {name: statistics.median(values) * 1e3 for name, values in samples.items()}
