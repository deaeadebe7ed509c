"""From reply bytes to the new global model: our fold, Flower's FedAvg, and the floor that memory sets.

Every size is measured in turns: the floor, the bare kernel, our fold without and with digests, Flower.
The floor reads every byte of the replies once (`numpy.sum`) and makes nothing of them.
Our fold takes chunks from memory to the bytes of the next model's shards; with digests it also checks that bytes are those that were sent.
Flower's times are of `FedAvg.aggregate_train` with its `np.load` of every reply, and of that and inflating the replies' objects before it.
The latter is what comes from a reply's bytes, as our fold does. Neither has digests in it.
How long Flower takes depends on the size of tensors: one of 40 MB does not fit into memory that was freed before, one of 4 MB does.
"""

import tracemalloc

import numpy as np
from aggregation import CHUNK_BYTES, SHARD_BYTES, Flower, fold, layout_of, medians, seconds, updates
from measuring import MB, Report, options

from fedplane.aggregator import sums
from fedplane.aggregator.reading import WINDOW_CHUNKS
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy
from fedplane.aggregator.strategies.fedavg import by_examples

__all__ = ["main"]

SMALL = 1_000_000
QUICK = [(8, 1_000_000, SMALL), (8, 10_000_000, SMALL), (8, 10_000_000, 10_000_000), (32, 10_000_000, SMALL)]
FULL = [
    *((members, elements, SMALL) for elements in (1_000_000, 10_000_000) for members in (8, 32, 100)),
    *((members, 10_000_000, 10_000_000) for members in (8, 32)),
    (8, 100_000_000, SMALL),
]
"""Members, parameters, parameters of a tensor. 100M parameters of 8 members are 3.2 GB on either side; more would not fit most machines."""

SPREAD = 1e-3


def kernel(members: list[np.ndarray], coefficients: Coefficients) -> None:
    """The arithmetic alone, chunk by chunk into one place."""
    step = CHUNK_BYTES // 4
    total, out = np.empty(step), np.empty(step, np.float32)
    for begin in range(0, len(members[0]), step):
        length = min(step, len(members[0]) - begin)
        total[:length] = 0.0
        for update, value in zip(members, coefficients.values, strict=True):
            sums.accumulate(total[:length], update[begin : begin + length], value)
        sums.divide(total[:length], coefficients.divisor, out[:length])


def measure(flower: Flower, members: int, elements: int, tensor: int, turns: int) -> dict[str, float]:
    _, arrays = updates(members, elements, SPREAD)
    views, layout, strategy = [memoryview(array).cast("B") for array in arrays], layout_of(elements), Strategy(by_examples)
    coefficients = Coefficients(tuple(float(10 + number) for number in range(members)), float(sum(range(10, 10 + members))))
    samples: dict[str, list[float]] = {}
    for turn in range(turns + 1):  # the first one warms up
        theirs = flower.ask("fedavg", members, elements, SPREAD, tensor)
        taken = {
            "floor": seconds(lambda: [array.sum() for array in arrays]),
            "kernel": seconds(lambda: kernel(arrays, coefficients)),
            "fold": seconds(lambda: fold(strategy, coefficients, layout, views)),
            "fold+digests": seconds(lambda: fold(strategy, coefficients, layout, views, digests=True)),
            "Flower": theirs["seconds"],
            "Flower+inflating": theirs["seconds"] + theirs["inflating"],
        }
        for name, value in taken.items() if turn else ():
            samples.setdefault(name, []).append(value)
    return medians(samples)


def extra_bytes() -> int:
    """The most that a fold of three shards has allocated at once."""
    elements = 3 * SHARD_BYTES // 4
    _, arrays = updates(2, elements, SPREAD)
    views = [memoryview(array).cast("B") for array in arrays]
    work = (Strategy(by_examples), Coefficients((1.0, 1.0), 2.0), layout_of(elements), views)
    fold(*work)  # a compiled kernel is loaded once, and is no part of a fold
    tracemalloc.start()
    fold(*work)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main() -> None:
    told = options(__doc__)
    report = Report("fold", "the bus, HTTP and object stores on either side; NVFlare and OpenFL, which are not installed")
    rows: list[list[object]] = []
    columns = [
        "case",
        "floor",
        "kernel",
        "fold",
        "fold+digests",
        "Flower",
        "Flower+inflating",
        "Flower/fold",
        "inflated/fold",
        "fold/floor",
    ]
    with Flower() as flower:
        for members, elements, tensor in QUICK if told.quick else FULL:
            taken = measure(flower, members, elements, tensor, 5 if told.quick or members * elements > 500_000_000 else 9)
            gains = [taken["Flower"] / taken["fold"], taken["Flower+inflating"] / taken["fold"]]
            price = taken["fold"] / taken["floor"]
            case = f"{members} x {elements // SMALL}M, tensors of {tensor // SMALL}M"
            rows.append([case, *taken.values(), *gains, price])
            if elements >= 10 * SMALL:
                report.bar(f"times Flower's speed, {case}", gains[0], at_least=5.0)
                report.bar(f"times Flower's speed with inflating, {case}", gains[1], at_least=5.0)
                report.bar(f"times the floor, {case}", price, at_most=2.0)
    report.table("reply bytes to model bytes, milliseconds, medians of turns", columns, rows)
    window = WINDOW_CHUNKS * CHUNK_BYTES  # chunks on their way; here they are views of what has arrived, so it is added
    report.bar("megabytes of a mean's fold, its window included", (extra_bytes() + window) / MB, at_most=(SHARD_BYTES + window) / MB)
    report.finish(told.json)


if __name__ == "__main__":
    main()
