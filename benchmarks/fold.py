"""From reply bytes to the new global model: our fold, the peers' averaging, and the floor that memory sets.

Every size is measured in turns: the floor, the bare kernel in one thread, our fold, the peers.
The floor reads every byte of the replies once (`numpy.sum`, one thread) and makes nothing of them.
Our fold takes chunks from memory to the bytes of the next model's shards, in as many threads as an aggregator has here.
With digests it also checks that every byte is one that was sent.

Flower's time is of `FedAvg.aggregate_train` with its `np.load` of every reply.
Loading is inflating the replies' objects before it, which is what comes from a reply's bytes, as our fold does.
Flower checks what was sent in its SuperLink, by SHA-256, and not where it aggregates; that is the verifying.
NVFlare's time is of its weighted aggregation helper, loading of its deserialization; OpenFL's of its averages and its decoding.
Neither of them verifies anything. What is exactly measured is said where it is done, in `flwr_`, `nvflare_` and `openfl_aggregation.py`.

How long Flower takes depends on the size of tensors: one of 40 MB does not fit into memory that was freed before, one of 4 MB does.
"""

import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from aggregation import (
    CHUNK_BYTES,
    FLOWER,
    PEERS,
    SHARD_BYTES,
    Answer,
    Peer,
    fold,
    layout_of,
    medians,
    seconds,
    updates,
)
from measuring import MB, Report, options

from fedplane.aggregator import sums
from fedplane.aggregator.reading import WINDOW_CHUNKS
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy
from fedplane.aggregator.strategies.fedavg import by_examples
from fedplane.aggregator.team import Team, threads_here

__all__ = ["main"]

SMALL = 1_000_000
SMOKE = [(2, 1_000_000, SMALL)]
QUICK = [(8, 1_000_000, SMALL), (8, 10_000_000, SMALL), (8, 10_000_000, 10_000_000), (32, 10_000_000, SMALL)]
FULL = [
    *((members, elements, SMALL) for elements in (1_000_000, 10_000_000) for members in (8, 32, 100)),
    *((members, 10_000_000, 10_000_000) for members in (8, 32)),
    (8, 100_000_000, SMALL),
]
"""Members, parameters, parameters of a tensor. 100M parameters of 8 members are 3.2 GB on every side; more would not fit most machines."""

OTHERS_BYTES_MAX = 1_300_000_000
"""Of updates, for the peers besides Flower: each holds its own replies at least twice, and all hold theirs at the same time."""

QUICK_OTHERS_BYTES_MAX = 400_000_000
"""The same where it should be quick: most of the time goes into making their replies."""

WARMING_TURNS = 2
"""A peer lets go of a round's memory when it has the next round's, so only the third round finds memory that was used before."""

SPREAD = 1e-3

WINDOW_BYTES = 16_000_000
"""What a fold may hold besides its result."""


def kernel(members: list[np.ndarray], coefficients: Coefficients) -> None:
    """The arithmetic alone, chunk by chunk into one place."""
    step = CHUNK_BYTES // 4
    total, out = np.empty(step), np.empty(step, np.float32)
    for begin in range(0, len(members[0]), step):
        length = min(step, len(members[0]) - begin)
        parts = [update[begin : begin + length] for update in members]
        sums.mean(total[:length], parts, coefficients.values, coefficients.divisor, out[:length], fresh=True)


def measure(peers: Sequence[Peer], team: Team, case: tuple[int, int, int], turns: int) -> dict[str, float]:
    members, elements, tensor = case
    for peer in peers:  # they make their replies at the same time, and before ours: a machine has no more cores
        peer.ask("fedavg", members, elements, SPREAD, tensor)
    _, arrays = updates(members, elements, SPREAD)
    views, layout, strategy = [memoryview(array).cast("B") for array in arrays], layout_of(elements), Strategy(by_examples)
    coefficients = Coefficients(tuple(float(10 + number) for number in range(members)), float(sum(range(10, 10 + members))))
    for peer in peers:
        peer.answer()
    ours: dict[str, Callable[[], object]] = {
        "floor": lambda: [array.sum() for array in arrays],
        "kernel": lambda: kernel(arrays, coefficients),
        "fold": lambda: fold(team, strategy, coefficients, layout, views),
        "fold+digests": lambda: fold(team, strategy, coefficients, layout, views, digests=True),
    }
    samples: dict[str, list[float]] = {}
    for turn in range(WARMING_TURNS + turns):
        taken = {name: seconds(work) for name, work in ours.items()}
        for peer in peers:
            peer.ask("fedavg", members, elements, SPREAD, tensor)
            taken |= told_by(peer, peer.answer())
        for name, value in taken.items() if turn >= WARMING_TURNS else ():
            samples.setdefault(name, []).append(value)
    return medians(samples)


def told_by(peer: Peer, answer: Answer) -> dict[str, float]:
    """Each step by itself says little about what a user waits for, so a column has all that comes before it."""
    told = {peer.name: answer.aggregating, f"{peer.name}+loading": answer.aggregating + answer.loading}
    if answer.verifying:
        told[f"{peer.name}+verifying"] = answer.aggregating + answer.loading + answer.verifying
    return told


def extra_bytes(team: Team) -> int:
    """The most that a fold of three shards has allocated at once."""
    elements = 3 * SHARD_BYTES // 4
    _, arrays = updates(10, elements, SPREAD)
    views = [memoryview(array).cast("B") for array in arrays]
    work = (team, Strategy(by_examples), Coefficients((1.0,) * 10, 10.0), layout_of(elements), views)
    fold(*work, digests=True)  # a compiled kernel is loaded once, and is no part of a fold
    tracemalloc.start()
    fold(*work, digests=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def compare(report: Report, name: str, taken: dict[str, float], judged: bool) -> list[object]:
    """One row: how many times longer than ours each side takes."""
    price, checked = taken["fold"] / taken["floor"], taken[f"{FLOWER}+verifying"] / taken["fold+digests"]
    gains = {peer: taken[peer] / taken["fold"] for peer in taken if peer.partition("+")[0] in PEERS and not peer.endswith("verifying")}
    if judged:
        report.bar(f"times Flower's speed, {name}", gains[FLOWER], at_least=5.0)
        report.bar(f"times Flower's speed from the bytes, {name}", gains[f"{FLOWER}+loading"], at_least=5.0)
        report.bar(f"times Flower's speed from the bytes, both with digests, {name}", checked, at_least=5.0)
        report.bar(f"times the floor, {name}", price, at_most=2.0)
    unchecked = taken[f"{FLOWER}+loading"] / taken["fold+digests"]
    others = [gains.get(f"{peer}{step}", "") for peer in PEERS if peer != FLOWER for step in ("", "+loading")]
    return [name, price, gains[FLOWER], gains[f"{FLOWER}+loading"], checked, unchecked, *others]


def main() -> None:
    told = options(__doc__)
    missing = [name for name in PEERS if name != FLOWER and not Peer.is_there(name)]
    report = Report(
        "fold", "the bus, HTTP and object stores on either side" + "".join(f"; {name}, which `make peers` installs" for name in missing)
    )
    team = Team(threads_here())
    times: list[list[object]] = []
    ratios: list[list[object]] = []
    columns: list[str] = []
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(name)) for name in PEERS if name not in missing]
        for case in SMOKE if told.smoke else QUICK if told.quick else FULL:
            members, elements, tensor = case
            size = 4 * members * elements
            turns = 1 if told.smoke else 4 if told.quick else 5 if size > 2_000_000_000 else 9
            at_most = QUICK_OTHERS_BYTES_MAX if told.quick else OTHERS_BYTES_MAX
            taken = measure([peer for peer in peers if peer.name == FLOWER or size <= at_most], team, case, turns)
            name = f"{members} x {elements // SMALL}M, tensors of {tensor // SMALL}M"
            columns = columns or list(taken)
            times.append([name, *(taken.get(column, "") for column in columns)])
            ratios.append(compare(report, name, taken, elements >= 10 * SMALL))
    report.table("milliseconds, medians of turns", ["case", *columns], times)
    others = [f"{peer}{step}/fold" for peer in PEERS if peer != FLOWER for step in ("", "+loading")]
    checked = [f"{FLOWER}+verifying/fold+digests", f"{FLOWER}+loading/fold+digests"]
    report.table("times", ["case", "fold/floor", f"{FLOWER}/fold", f"{FLOWER}+loading/fold", *checked, *others], ratios)
    report.note(f"{threads_here()} threads fold and hash; the floor, the kernel and all peers have one")
    held = extra_bytes(team) + WINDOW_CHUNKS * CHUNK_BYTES  # chunks on their way; here they are views of what has arrived
    report.bar("megabytes of a mean's fold, its window included", held / MB, at_most=(SHARD_BYTES + WINDOW_BYTES) / MB)
    report.finish(told)


if __name__ == "__main__":
    main()
