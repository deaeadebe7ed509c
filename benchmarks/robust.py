"""Median, trimmed mean and Krum of many clients: how fast, and whether Krum chooses the right client, beside Flower's.

Members differ by a thousandth of the weights' scale, as they do after a little local training, and one of them is in the middle.
Krum has to choose that one. Ours takes two passes over the bytes: one that compares, one that folds.
Left out: the bus, digests, storing the result; bulyan, multikrum and rfa, which cost what krum and the median cost.
"""

import numpy as np
from aggregation import CHUNK_BYTES, FLOWER, Peer, fold, layout_of, medians, seconds, updates
from measuring import Report, options

from fedplane.aggregator.shards import products
from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Member
from fedplane.aggregator.team import Team, threads_here
from fedplane.schemas.layout import cut

__all__ = ["main"]

MEMBERS, RIGHT = 32, 3
SPREAD = 1e-3
TENSOR = 1_000_000
NAMES = ("fedmedian", "trimmedmean", "krum")


def aggregate(team: Team, name: str, model: memoryview, views: list[memoryview]) -> tuple[int, ...]:
    """Fold the members by that strategy; which of them counted."""
    strategy, layout = STRATEGIES[name]({}), layout_of(model.nbytes // 4)
    compared = None
    if strategy.compares:
        compared = np.zeros((len(views), len(views)))
        for low, high in cut(layout.bytes, CHUNK_BYTES):
            compared += products(layout, (low, high), [view[low:high] for view in views], model[low:high])
    members = tuple(Member(f"c{number:02}", 10.0 + number, {}) for number in range(len(views)))
    weighed = strategy.weigh(Cohort(members, len(members), compared))
    counting = tuple(number for number, value in enumerate(weighed.values) if value)
    values = Coefficients(tuple(weighed.values[number] for number in counting), weighed.divisor, weighed.rest)
    fold(team, strategy, values, layout, [views[number] for number in counting])
    return counting


def measure(
    flower: Peer, team: Team, name: str, model: memoryview, views: list[memoryview], turns: int
) -> tuple[dict[str, float], str, bool]:
    """Medians, whom either side chose, and whether ours chose the right one."""
    samples: dict[str, list[float]] = {"ours": [], "Flower": []}
    counting: list[tuple[int, ...]] = []
    for turn in range(turns + 1):  # the first one warms up
        taken = seconds(lambda: counting.append(aggregate(team, name, model, views)))
        flower.ask(name, MEMBERS, model.nbytes // 4, SPREAD, TENSOR)
        theirs = flower.answer()
        if turn:
            samples["ours"].append(taken)
            samples["Flower"].append(theirs.aggregating)
    return medians(samples), f"ours {list(counting[-1])}, Flower's {theirs.chosen}", set(counting) == {(RIGHT,)}


def main() -> None:
    told = options(__doc__)
    report = Report(
        "robust", "the bus, digests, storing the result; bulyan, multikrum and rfa; NVFlare and OpenFL, which have none of these"
    )
    elements, turns = (200_000, 1) if told.smoke else (2_000_000, 3) if told.quick else (10_000_000, 5)
    array, arrays = updates(MEMBERS, elements, SPREAD)
    model, views = memoryview(array).cast("B"), [memoryview(update).cast("B") for update in arrays]
    rows: list[list[object]] = []
    team = Team(threads_here())
    with Peer(FLOWER) as flower:
        for name in NAMES:
            taken, chosen, right = measure(flower, team, name, model, views, turns)
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
    report.finish(told)


if __name__ == "__main__":
    main()
