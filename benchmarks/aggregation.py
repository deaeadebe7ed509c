"""What the two aggregation benchmarks share: the same updates for both sides, Flower in its own process, our fold.

Flower lives in an environment of its own, so a second process measures it, on updates made by the same few lines.
The sides take turns, and ratios are of medians: whatever slows the machine slows both.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedplane.aggregator.shards import ShardFold
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy
from fedplane.schemas.layout import Layout, cut, parse_header

__all__ = ["CHUNK_BYTES", "SHARD_BYTES", "Flower", "fold", "layout_of", "medians", "seconds", "updates"]

SHARD_BYTES, CHUNK_BYTES = 16_000_000, 1_000_000
"""The aggregator's defaults."""

FLOWER = Path(__file__).parent / "flwr_aggregation.py"
FLOWER_PYTHON = Path(__file__).parents[1] / "examples" / "01-mnist" / ".venv" / "bin" / "python"


def updates(members: int, elements: int, spread: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """A model of standard normal weights, and members that differ from it by that share of them; the fourth differs by half as much."""
    random = np.random.default_rng(0)
    model = random.standard_normal(elements, dtype=np.float32)
    away = [np.float32(spread * (0.5 if member == 3 else 1.0)) for member in range(members)]
    return model, [model + random.standard_normal(elements, dtype=np.float32) * each for each in away]


def layout_of(elements: int) -> Layout:
    body = json.dumps({"w": {"dtype": "F32", "shape": [elements], "data_offsets": [0, 4 * elements]}}).encode()
    return parse_header(len(body).to_bytes(8, "little") + body)


def fold(
    strategy: Strategy, coefficients: Coefficients, layout: Layout, members: Sequence[memoryview], *, digests: bool = False
) -> list[bytes]:
    """Every shard of the next model, as `folding` drives a fold, from bytes that have arrived. Returns the first bytes of each shard."""
    begun = []
    for begin, end in cut(layout.bytes, SHARD_BYTES):
        folding = ShardFold(strategy, coefficients, layout, (begin, end), CHUNK_BYTES)
        hashes = [hashlib.sha256() for _ in members]
        for chunk, (low, high) in enumerate(folding.chunks):
            folding.open(chunk)
            for member, update in enumerate(members):
                data = update[begin + low : begin + high]
                if digests:
                    hashes[member].update(data)
                folding.add(member, data)
            folding.close(chunk)
        begun.append(bytes(folding.out[:4096]))
        del folding  # before the next one is made, as between two tasks
    return begun


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Flower:
    """Flower in a process of its own."""

    def __init__(self) -> None:
        if not FLOWER_PYTHON.exists():
            sys.exit("the example has no environment, and Flower lives in it; `make app` makes it")
        self._process = subprocess.Popen(
            [FLOWER_PYTHON, FLOWER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> "Flower":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, strategy: str, members: int, elements: int, spread: float, tensor: int) -> dict[str, Any]:
        """How long it takes; `tensor` is how many elements a tensor of the model has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        question = {"strategy": strategy, "members": members, "elements": elements, "spread": spread, "tensor": tensor}
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def medians(samples: dict[str, list[float]]) -> dict[str, float]:
    """Milliseconds."""
    return {name: statistics.median(values) * 1e3 for name, values in samples.items()}
