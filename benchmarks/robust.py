"""Median, trimmed mean and Krum of many clients: how fast, and whether Krum chooses the right client, beside Flower's.

Members differ by a thousandth of the weights' scale, as they do after a little local training, and one of them is in the middle.
Krum has to choose that one. Ours takes two passes over the bytes: one that compares, one that folds.
Left out: the bus, digests, storing the result; bulyan, multikrum and rfa, which cost what krum and the median cost.
"""

import numpy as np
from aggregation import CHUNK_BYTES, Flower, fold, layout_of, medians, seconds, updates
from measuring import Report, options

from fedplane.aggregator.shards import products
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients, Member
from fedplane.schemas.layout import cut

__all__ = ["main"]

MEMBERS, RIGHT = 32, 3
SPREAD = 1e-3
TENSOR = 1_000_000
NAMES = ("fedmedian", "trimmedmean", "krum")


def aggregate(name: str, model: memoryview, views: list[memoryview]) -> tuple[int, ...]:
    """Fold the members by that strategy; which of them counted."""
    strategy, layout = STRATEGIES[name]({}), layout_of(model.nbytes // 4)
    compared = None
    if strategy.compares:
        compared = np.zeros((len(views), len(views)))
        for low, high in cut(layout.bytes, CHUNK_BYTES):
            compared += products(layout, (low, high), [view[low:high] for view in views], model[low:high])
    weighed = strategy.weigh([Member(f"c{number:02}", 10.0 + number, {}) for number in range(len(views))], compared)
    counting = tuple(number for number, value in enumerate(weighed.values) if value)
    values = Coefficients(tuple(weighed.values[number] for number in counting), weighed.divisor, weighed.rest)
    fold(strategy, values, layout, [views[number] for number in counting])
    return counting


def measure(flower: Flower, name: str, model: memoryview, views: list[memoryview], turns: int) -> tuple[dict[str, float], str, bool]:
    """Medians, whom either side chose, and whether ours chose the right one."""
    samples: dict[str, list[float]] = {"ours": [], "Flower": []}
    counting: list[tuple[int, ...]] = []
    for turn in range(turns + 1):  # the first one warms up
        taken = seconds(lambda: counting.append(aggregate(name, model, views)))
        theirs = flower.ask(name, MEMBERS, model.nbytes // 4, SPREAD, TENSOR)
        if turn:
            samples["ours"].append(taken)
            samples["Flower"].append(theirs["seconds"])
    return medians(samples), f"ours {list(counting[-1])}, Flower's {theirs['chosen']}", set(counting) == {(RIGHT,)}


def main() -> None:
    told = options(__doc__)
    report = Report(
        "robust", "the bus, digests, storing the result; bulyan, multikrum and rfa; NVFlare and OpenFL, which are not installed"
    )
    elements, turns = (2_000_000, 3) if told.quick else (10_000_000, 5)
    array, arrays = updates(MEMBERS, elements, SPREAD)
    model, views = memoryview(array).cast("B"), [memoryview(update).cast("B") for update in arrays]
    rows: list[list[object]] = []
    with Flower() as flower:
        for name in NAMES:
            taken, chosen, right = measure(flower, name, model, views, turns)
            gain = taken["Flower"] / taken["ours"]
            rows.append([name, *taken.values(), gain])
            if name == "krum":
                report.bar("krum chooses the right client", float(right), at_least=1.0)
            else:
                report.bar(f"times Flower's speed, {name}", gain, at_least=10.0)
    report.table(
        f"{MEMBERS} x {elements // 1_000_000}M, milliseconds, medians of turns", ["strategy", "ours", "Flower", "Flower/ours"], rows
    )
    report.note(f"Krum's choice where clients differ by {SPREAD:g} of the weights' scale: {chosen}; right is {[RIGHT]}")
    report.finish(told.json)


if __name__ == "__main__":
    main()
