"""What the peers' sides of the aggregation benchmarks share: the same updates, and answering questions.

Each peer lives in an environment of its own, so its side is a program of its own, run by `aggregation.py`.
This module needs nothing but numpy, so that it can be imported there.

A question is a line of JSON on the input: strategy, members, elements, spread, elements of a tensor.
The answer is a line on the output: seconds of each step, and whose update the result is.
The steps are `verifying` (that bytes are those that were sent), `loading` (making of a reply's bytes what the peer aggregates) and
`aggregating`.
What a peer does not do takes no time.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

__all__ = ["Steps", "serve", "tensors", "updates"]

Reply = TypeVar("Reply")

KEPT_ELEMENTS = 1000
"""Of each update, to find out whose the result is."""


def updates(members: int, elements: int, spread: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """A model of standard normal weights, and members that differ from it by that share of them; the fourth differs by half as much."""
    random = np.random.default_rng(0)
    model = random.standard_normal(elements, dtype=np.float32)
    away = [np.float32(spread * (0.5 if member == 3 else 1.0)) for member in range(members)]
    return model, [model + random.standard_normal(elements, dtype=np.float32) * each for each in away]


def tensors(update: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """An update as tensors of that many elements, by name; the first is `t0`."""
    return {f"t{begin}": update[begin : begin + size] for begin in range(0, len(update), size)}


class Steps:
    """A stopwatch for the steps of an aggregation."""

    def __init__(self) -> None:
        self.seconds = {"verifying": 0.0, "loading": 0.0, "aggregating": 0.0}
        self._began = time.perf_counter()

    def end(self, step: str) -> None:
        """What passed since the last step ended was that one."""
        now = time.perf_counter()
        self.seconds[step] += now - self._began
        self._began = now


def serve(
    reply: Callable[[int, dict[str, np.ndarray]], Reply], aggregate: Callable[[str, list[Reply], Steps], tuple[np.ndarray, object]]
) -> None:
    """Answer until the input ends.

    `reply` makes what a member sends, of its number and its tensors.
    `aggregate` makes the new model of all replies by the strategy and tells the stopwatch its steps.
    It returns the first tensor, and what it loaded: servers let go of a round's replies only when they have the next round's.
    (That is to the peers' advantage here. Memory that is freed earlier goes back to the system, and fresh memory costs more than adding.)
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a peer prints is no answer
    logging.disable(logging.CRITICAL)
    held: Any = None
    _kept: object = None
    begins: list[np.ndarray] = []
    replies: list[Reply] = []
    for line in sys.stdin:
        asked = json.loads(line)
        wanted = [asked[name] for name in ("members", "elements", "spread", "tensor")]
        if wanted != held:
            replies, begins, held, _kept = [], [], wanted, None
            _, arrays = updates(*wanted[:3])
            for number in range(len(arrays)):
                begins.append(arrays[number][:KEPT_ELEMENTS].copy())
                replies.append(reply(number, tensors(arrays[number], asked["tensor"])))
                arrays[number] = begins[number]  # a peer's memory is for its replies
        steps = Steps()
        first, _kept = aggregate(asked["strategy"], replies, steps)
        chosen = [number for number, begin in enumerate(begins) if np.array_equal(begin, first[: len(begin)])]
        answers.write(json.dumps({"seconds": steps.seconds, "chosen": chosen}) + "\n")
        answers.flush()
