"""Robust strategies: each against its paper in a few lines of numpy, against Flower's own numbers, and against an attacker."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import MEMBERS_COMPARED_MAX, CannotFold, Cohort, Member, insist_on_few
from fedplane.runtime.errors import BadInput
from fedplane.schemas.envelope import FACT_BYTES_MAX
from fedplane.schemas.facts import Measured
from fedplane.schemas.names import NAME_CHARACTERS_MAX

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "flwr_robust.json").read_text())


def folded(name: str, updates: np.ndarray, model: np.ndarray | None = None, examples=None, **parameters: float) -> np.ndarray:
    """The next model, as `folding` has a strategy make it."""
    strategy = STRATEGIES[name](parameters)
    differences = updates - (0 if model is None else model)
    weights = [1.0] * len(updates) if examples is None else examples
    members = tuple(Member(f"c{index:03}", weight, {}) for index, weight in enumerate(weights))
    coefficients = strategy.weigh(Cohort(members, len(members), differences @ differences.T if strategy.compares else None))
    if strategy.combine is not None:
        return strategy.combine(updates[[bool(value) for value in coefficients.values]], coefficients)
    return np.array(coefficients.values) @ updates / coefficients.divisor


def random_updates(members: int, elements: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((members, elements))


def krum_scores(updates: np.ndarray, byzantine: int) -> list[float]:
    """As Blanchard et al. define them, member by member."""
    neighbours = len(updates) - byzantine - 2
    return [
        sum(sorted(float(np.sum((one - other) ** 2)) for at, other in enumerate(updates) if at != index)[:neighbours])
        for index, one in enumerate(updates)
    ]


def fedmedian(updates: np.ndarray, byzantine: int) -> np.ndarray:
    return np.median(updates, axis=0)


def trimmedmean(updates: np.ndarray, byzantine: int) -> np.ndarray:
    cut = len(updates) // 5
    return np.sort(updates, axis=0)[cut : len(updates) - cut].mean(axis=0)


def krum(updates: np.ndarray, byzantine: int) -> np.ndarray:
    return updates[np.argmin(krum_scores(updates, byzantine))]


def multikrum(updates: np.ndarray, byzantine: int) -> np.ndarray:
    best = np.argsort(krum_scores(updates, byzantine))[: len(updates) - byzantine - 2]
    return updates[best].mean(axis=0)


def bulyan(updates: np.ndarray, byzantine: int) -> np.ndarray:
    left, chosen = list(range(len(updates))), []
    while len(left) > 2 * byzantine + 3:
        chosen.append(left.pop(int(np.argmin(krum_scores(updates[left], byzantine)))))
    chosen += [left[at] for at in np.argsort(krum_scores(updates[left], byzantine))[:3]]
    values = updates[chosen]
    closest = np.argsort(np.abs(values - np.median(values, axis=0)), axis=0)[: len(chosen) - 2 * byzantine]
    return np.take_along_axis(values, closest, axis=0).mean(axis=0)


def rfa(updates: np.ndarray, byzantine: int) -> np.ndarray:
    middle = updates.mean(axis=0)
    for _ in range(50):
        pulls = 1 / np.maximum(np.linalg.norm(updates - middle, axis=1), 1e-6)
        middle = pulls @ updates / pulls.sum()
    return middle


PAPERS = {"fedmedian": fedmedian, "trimmedmean": trimmedmean, "krum": krum, "multikrum": multikrum, "bulyan": bulyan, "rfa": rfa}
HAVE_BYZANTINE = {"krum", "multikrum", "bulyan"}


@pytest.mark.parametrize("members", [11, 12, 15, 30])
@pytest.mark.parametrize("name", PAPERS)
def test_a_strategy_does_what_its_paper_says(name, members) -> None:
    parameters = {"byzantine": 2} if name in HAVE_BYZANTINE else {}
    for seed in range(5):
        updates = random_updates(members, seed=seed)

        assert np.allclose(folded(name, updates, **parameters), PAPERS[name](updates, 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['strategy']}-{len(case['updates'])}")
def test_a_strategy_gives_the_numbers_that_flower_gives(case) -> None:
    result = folded(case["strategy"], np.array(case["updates"]), **case["parameters"])

    assert np.allclose(result, case["result"], rtol=1e-6, atol=1e-6), "Flower computes in float32"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fedmedian", {}),
        ("trimmedmean", {}),
        ("krum", {"byzantine": 2}),
        ("multikrum", {"byzantine": 2}),
        ("bulyan", {"byzantine": 2}),
        ("rfa", {}),
    ],
)
@pytest.mark.parametrize("size", [1e3, -1e9])
def test_two_attackers_of_eleven_do_not_move_the_model_beyond_the_honest(name, parameters, size) -> None:
    updates = random_updates(11)
    updates[[0, 6]] = size
    honest = np.delete(updates, [0, 6], axis=0)
    result = folded(name, updates, **parameters)

    assert (result >= honest.min(axis=0)).all()
    assert (result <= honest.max(axis=0)).all()
    assert np.abs(folded("fedavg", updates)).max() > 100, "a plain mean is moved"


def test_an_attacker_who_claims_all_the_examples_gains_nothing_where_members_count_once() -> None:
    updates, claims = random_updates(7), [1e9, *[1.0] * 6]

    for name in ("fedmedian", "trimmedmean", "krum", "multikrum", "bulyan"):
        assert np.array_equal(folded(name, updates, examples=claims), folded(name, updates)), name


def test_examples_move_the_geometric_median() -> None:
    line = np.array([[0.0], [1.0], [5.0]])

    assert folded("rfa", line, examples=[1.0, 10.0, 1.0], iterations=1000) == pytest.approx([1.0], abs=1e-3)
    assert folded("rfa", line, examples=[1.0, 1.0, 10.0], iterations=1000) == pytest.approx([5.0], abs=1e-3)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_krum_finds_the_right_member_however_little_they_differ(spread) -> None:
    random = np.random.default_rng(0)
    model = random.standard_normal(100_000).astype(np.float32).astype(np.float64)
    offsets = random.standard_normal((8, 100_000)) * np.array([[3, 3, 3, 1, 3, 3, 3, 3]]).T  # the fourth is in the middle
    updates = model + offsets * spread

    assert np.array_equal(folded("krum", updates, model, byzantine=1), updates[3])


def test_of_equally_good_members_krum_takes_the_first_by_name() -> None:
    corners = np.array([[1.0, 1], [0, 1], [1, 0], [0, 0]])

    assert folded("krum", corners).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "members", "parameters", "said"),
    [
        ("krum", 6, {"byzantine": 2}, "krum with byzantine=2 needs at least 7 members, and there are 6"),
        ("multikrum", 2, {}, "multikrum with byzantine=0 needs at least 3 members, and there are 2"),
        ("multikrum", 5, {"byzantine": 1, "keep": 5}, "multikrum cannot keep 5 of 5 members when 1 may be faulty; keep at most 4"),
        ("bulyan", 6, {}, "bulyan with byzantine=1 needs at least 7 members, and there are 6"),
    ],
)
def test_members_that_are_too_few_cannot_be_folded(name, members, parameters, said) -> None:
    with pytest.raises(CannotFold) as raised:
        folded(name, random_updates(members), **parameters)

    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("fedmedian", {"beta": 0.1}, "spec.strategy.parameters: fedmedian has no 'beta'; it has none"),
        ("trimmedmean", {"beta": 0.5}, "spec.strategy.parameters.beta: trimmedmean takes 0 to 0.499, not 0.5"),
        ("krum", {"byzantine": 1.5}, "spec.strategy.parameters.byzantine: krum takes a whole number, not 1.5"),
        ("krum", {"byzantine": -1}, "spec.strategy.parameters.byzantine: krum takes 0 to 126, not -1"),
        ("multikrum", {"keep": 300}, "spec.strategy.parameters.keep: multikrum takes 0 to 256, not 300"),
        ("bulyan", {"byzantine": 64}, "spec.strategy.parameters.byzantine: bulyan takes 0 to 63, not 64"),
        ("rfa", {"nu": 0.0}, "spec.strategy.parameters.nu: rfa takes 1e-12 to 1e+06, not 0"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(name, parameters, said) -> None:
    with pytest.raises(BadInput) as raised:
        STRATEGIES[name](parameters)

    assert str(raised.value) == said


def test_as_many_members_can_be_compared_as_a_fact_has_room_for() -> None:
    names = tuple(f"{index:0{NAME_CHARACTERS_MAX}}" for index in range(MEMBERS_COMPARED_MAX))
    products = (-1.2345678901234567e-100,) * len(list(combinations(range(MEMBERS_COMPARED_MAX + 1), 2)))
    fact = Measured(run="r", round=1, at="2026-03-02T12:00:00Z", shard=0, members=names, products=products)
    insist_on_few(MEMBERS_COMPARED_MAX)

    assert len(fact.model_dump_json()) < FACT_BYTES_MAX
    with pytest.raises(CannotFold, match="257 members are more than the 256 that can be compared"):
        insist_on_few(MEMBERS_COMPARED_MAX + 1)
