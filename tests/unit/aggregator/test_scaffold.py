"""SCAFFOLD: its arithmetic against the paper's in float64, and whether it reaches the optimum that federated averaging misses."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fold_story import fold_models
from scaffold_story import CLUSTERS, LR, OPTIMUM, STEPS, Tensors, drifting, gradient, initial, printed_client

from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients, Cohort, Member

PRECISION = {np.float64: 1e-14, np.float32: 6e-8, np.float16: 5e-4, ml_dtypes.bfloat16: 4e-3}
"""Half of a dtype's last digit, and for float64 what is left of a few operations."""


def kinds(seed: int) -> Tensors:
    random = np.random.default_rng(seed)
    shapes = {np.float64: (3,), np.float32: (5, 3), np.float16: (7,), ml_dtypes.bfloat16: (2, 2)}
    return {
        prefix + np.dtype(dtype).name: (random.standard_normal(shape) + 4).astype(dtype)
        for dtype, shape in shapes.items()
        for prefix in ("", "control.")
    }


@pytest.mark.parametrize("eta", [1.0, 0.5, 2.0])
@pytest.mark.parametrize(("members", "clusters"), [(3, 3), (3, 7), (1, 4)])
@pytest.mark.parametrize("shard_bytes", [16, 40, 1000])
def test_the_next_model_and_control_variates_are_the_papers_whatever_the_dtype_and_the_shards(eta, members, clusters, shard_bytes) -> None:
    model, updates = kinds(0), [kinds(seed) for seed in range(1, members + 1)]
    folded = fold_models(
        STRATEGIES["scaffold"]({"eta": eta}), updates, model, clusters=clusters, shard_bytes=shard_bytes, weights=[9, 1, 5][:members]
    )
    x, y = ({name: tensor.astype(np.float64) for name, tensor in tensors.items()} for tensors in (model, {}))
    for name, present in x.items():
        change = np.mean([update[name].astype(np.float64) - present for update in updates], axis=0)
        y[name] = present + (members / clusters if name.startswith("control.") else eta) * change

    for name, expected in y.items():
        assert folded[name].dtype == model[name].dtype
        assert folded[name].astype(np.float64) == pytest.approx(expected, rel=PRECISION[model[name].dtype.type]), name


def test_with_everyone_there_and_a_rate_of_one_it_is_the_plain_mean_to_the_bit() -> None:
    updates = [kinds(seed) for seed in range(3)]
    folded, plain = (fold_models(STRATEGIES[name]({}), updates, kinds(9)) for name in ("scaffold", "fedavg"))

    assert {name: tensor.tolist() for name, tensor in folded.items()} == {name: tensor.tolist() for name, tensor in plain.items()}


def test_parameters_and_control_variates_are_weighed_apart_and_examples_do_not_count() -> None:
    strategy, cohort = STRATEGIES["scaffold"]({"eta": 0.5}), Cohort((Member("a", 10, {}), Member("b", 90, {})), 8)

    assert strategy.weigh(cohort) == Coefficients((0.5, 0.5), 2, 0.5)
    assert {prefix: weigh(cohort) for prefix, weigh in strategy.apart.items()} == {"control.": Coefficients((1, 1), 8, 0.75)}


def test_answers_to_an_earlier_rounds_question_are_left_out() -> None:
    strategy, cohort = STRATEGIES["scaffold"]({}), Cohort((Member("a", 1, {}, staleness=2), Member("b", 1, {})), 4)

    assert strategy.weigh(cohort) == Coefficients((0, 1), 1)
    assert strategy.apart["control."](cohort) == Coefficients((0, 1), 4, 0.75)


def trained(rounds: int, strategy: str, answer: Callable[[Tensors, int, int], Tensors], asked: int, lost: float = 0.0) -> float:
    """How far the model is from the optimum, when each round asks that many clusters, and so many of their answers are lost."""
    random, model = np.random.default_rng(1), initial()
    for training_round in range(1, rounds + 1):
        chosen = sorted(random.choice(CLUSTERS, asked, replace=False).tolist())
        answers = [answer(model, cluster, training_round) for cluster in chosen]
        arrived = [update for update in answers if random.random() >= lost]
        if arrived:
            model = fold_models(STRATEGIES[strategy]({}), arrived, model, clusters=CLUSTERS)
    return float(np.linalg.norm(model["w"] - OPTIMUM))


def corrected(careless: bool = False) -> Callable[[Tensors, int, int], Tensors]:
    """Clusters that train as the how-to says. The careless take every answer for counted."""
    train, kept = printed_client(), dict[int, Any]()

    def answer(sent: Tensors, cluster: int, training_round: int) -> Tensors:
        update, after = train(sent, kept.get(cluster), gradient(cluster), STEPS, LR, training_round, cluster, CLUSTERS)
        kept[cluster] = {**after, "own": after["sent"]} if careless else after
        return update

    return answer


def uncorrected(sent: Tensors, cluster: int, training_round: int) -> Tensors:
    return drifting(sent, cluster)


def test_federated_averaging_ends_beside_the_optimum_and_scaffold_at_it() -> None:
    assert trained(60, "fedavg", uncorrected, asked=4) == pytest.approx(0.3787, abs=1e-4)
    assert trained(60, "scaffold", corrected(), asked=4) < 1e-12


def test_scaffold_reaches_the_optimum_when_half_of_the_clusters_are_asked_each_time() -> None:
    assert trained(150, "fedavg", uncorrected, asked=2) > 0.5
    assert trained(150, "scaffold", corrected(), asked=2) < 1e-12


def test_answers_that_are_lost_keep_scaffold_from_the_optimum_unless_clusters_see_what_was_counted() -> None:
    assert trained(100, "scaffold", corrected(careless=True), asked=3, lost=0.2) > 0.3
    assert trained(100, "scaffold", corrected(), asked=3, lost=0.2) < 1e-12
