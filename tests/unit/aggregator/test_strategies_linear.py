"""The strategies that are a weighted sum and a server's step: against their papers' formulas, and against Flower's own numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedplane.aggregator.strategies import STRATEGIES, make
from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Cohort, Member, Strategy, Vector
from fedplane.runtime.errors import BadInput
from fedplane.schemas.resources import StrategySpec

RANDOM = np.random.default_rng(3)
ROUNDS = 4
EXAMPLES = np.array([10.0, 300.0, 25.0])
MODEL = RANDOM.standard_normal(6)
CHANGES = RANDOM.standard_normal((ROUNDS, len(EXAMPLES), len(MODEL)))
"""What each round's members add to the model that they are sent, whatever it is."""
LOSSES = RANDOM.random((ROUNDS, len(EXAMPLES))) + 0.1
STEPS = RANDOM.integers(1, 50, (ROUNDS, len(EXAMPLES)))

MEANS = np.array([np.average(changes, axis=0, weights=EXAMPLES) for changes in CHANGES])


def step(
    strategy: Strategy, model: Vector, memory: tuple[Vector, ...], training_round: int, updates: Vector, members: list[Member]
) -> tuple[Vector, tuple[Vector, ...]]:
    """One round as the aggregator does it."""
    differences = updates - model
    counts = strategy.weigh(cohort(members, differences @ differences.T if strategy.compares else None))
    proposal = np.array(counts.values) @ updates / counts.divisor + counts.rest * model
    return (proposal, memory) if strategy.advance is None else strategy.advance(model, proposal, memory, training_round)


def cohort(members: list[Member], products: Vector | None = None) -> Cohort:
    return Cohort(tuple(members), len(members), products)


def nothing(strategy: Strategy) -> tuple[Vector, ...]:
    return tuple(np.zeros((strategy.memories, len(MODEL))))


def told(*metrics: dict[str, float]) -> list[Member]:
    return [Member(cluster, examples, said) for cluster, examples, said in zip("abc", EXAMPLES, metrics, strict=True)]


def fading(values: Vector, factor: float) -> Vector:
    """For each round, the sum of its values and all before, each multiplied by the factor once for every round that has passed since."""
    return np.array([sum(factor ** (now - then) * values[then] for then in range(now + 1)) for now in range(ROUNDS)])


def fedavgm(momentum: float = 0.9, eta: float = 1.0) -> Vector:
    return eta * fading(MEANS, momentum)


def fedadagrad(eta: float = 0.1, beta1: float = 0.0, tau: float = 1e-3) -> Vector:
    return eta * (1 - beta1) * fading(MEANS, beta1) / (np.sqrt(np.cumsum(MEANS**2, axis=0)) + tau)


def fedadam(eta: float = 0.1, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Vector:
    return eta * (1 - beta1) * fading(MEANS, beta1) / (np.sqrt((1 - beta2) * fading(MEANS**2, beta2)) + tau)


def fedyogi(eta: float = 0.01, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3) -> Vector:
    seconds = np.zeros((ROUNDS + 1, len(MODEL)))
    for now, mean in enumerate(MEANS):
        for element, value in enumerate(mean):
            grown = (1 - beta2) * value**2
            seconds[now + 1, element] = seconds[now, element] + (grown if seconds[now, element] < value**2 else -grown)
    return eta * (1 - beta1) * fading(MEANS, beta1) / (np.sqrt(seconds[1:]) + tau)


def fedprox(mu: float = 0.01) -> Vector:
    return MEANS


def fednova() -> Vector:
    shares = EXAMPLES / EXAMPLES.sum()
    return np.array([(shares @ steps) * (shares / steps) @ changes for steps, changes in zip(STEPS, CHANGES, strict=True)])


def qfedavg(q: float = 0.1, clientLearningRate: float = 0.1) -> Vector:
    moved = []
    for losses, changes in zip(LOSSES, CHANGES, strict=True):
        gradients = -changes / clientLearningRate
        deltas = [loss**q * gradient for loss, gradient in zip(losses, gradients, strict=True)]
        sizes = [q * loss ** (q - 1) * g @ g + loss**q / clientLearningRate for loss, g in zip(losses, gradients, strict=True)]
        moved.append(-sum(deltas) / sum(sizes))
    return np.array(moved)


def normclip(norm: float = 3.0) -> Vector:
    clipped = [[change * min(1, norm / np.linalg.norm(change)) for change in changes] for changes in CHANGES]
    return np.array([np.average(changes, axis=0, weights=EXAMPLES) for changes in clipped])


@pytest.mark.parametrize(
    ("formula", "parameters"),
    [
        (fedavgm, {}),
        (fedavgm, {"momentum": 0.5, "eta": 0.3}),
        (fedadagrad, {}),
        (fedadagrad, {"eta": 0.3, "beta1": 0.5, "tau": 0.1}),
        (fedadam, {}),
        (fedadam, {"eta": 0.3, "beta1": 0.5, "beta2": 0.7, "tau": 0.1}),
        (fedyogi, {}),
        (fedyogi, {"eta": 0.3, "beta1": 0.5, "beta2": 0.3, "tau": 0.1}),
        (fedprox, {}),
        (fednova, {}),
        (qfedavg, {}),
        (qfedavg, {"q": 3.0, "clientLearningRate": 0.5}),
        (normclip, {}),
        (normclip, {"norm": 2.0}),
    ],
)
def test_round_after_round_the_model_moves_as_the_paper_says(formula, parameters) -> None:
    strategy = STRATEGIES[formula.__name__](parameters)
    models, memory = [MODEL], nothing(strategy)
    for now in range(ROUNDS):
        members = told(*({"loss": loss, "num-steps": float(steps)} for loss, steps in zip(LOSSES[now], STEPS[now], strict=True)))
        model, memory = step(strategy, models[-1], memory, now + 1, models[-1] + CHANGES[now], members)
        models.append(model)

    assert np.array(models[1:]) == pytest.approx(MODEL + np.cumsum(formula(**parameters), axis=0), rel=1e-8)


def test_what_the_formulas_are_tried_on_has_changes_on_both_sides_of_the_norm() -> None:
    longer = np.linalg.norm(CHANGES, axis=2) > 2

    assert longer.any() and not longer.all()


def test_fedprox_tells_its_clients_mu_by_the_name_that_flower_uses() -> None:
    assert STRATEGIES["fedprox"]({}).tells == {"proximal-mu": 0.01}


ALIKE = told(*[{"num-steps": 7.0, "loss": 0.5}] * 3)


def test_clusters_of_as_many_steps_count_as_in_federated_averaging_to_the_bit() -> None:
    assert STRATEGIES["fednova"]({}).weigh(cohort(ALIKE)) == Coefficients((10, 300, 25), 335)


def test_differences_shorter_than_the_norm_count_as_in_federated_averaging_to_the_bit() -> None:
    assert STRATEGIES["normclip"]({"norm": 2}).weigh(cohort(ALIKE, np.diag([0.0, 1.0, 4.0]))) == Coefficients((10, 300, 25), 335)


def test_fairness_of_zero_is_the_plain_mean() -> None:
    weighed = STRATEGIES["qfedavg"]({"q": 0, "clientLearningRate": 0.5}).weigh(cohort(ALIKE, np.eye(3)))

    assert weighed == Coefficients((2, 2, 2), 6)


def test_a_cluster_with_a_higher_loss_counts_more_and_one_with_none_still_counts() -> None:
    members = told({"loss": 0.0}, {"loss": 1.0}, {"loss": 4.0})
    weighed = STRATEGIES["qfedavg"]({"q": 0.5, "clientLearningRate": 1}).weigh(cohort(members, np.eye(3)))

    assert weighed.values == pytest.approx((1e-5, 1, 2), rel=1e-9)
    assert weighed.divisor == pytest.approx(0.5 * (1e5 + 1 + 0.5) + 3.00001, rel=1e-9)


@pytest.mark.parametrize("others", [({}, {}), ({"train-loss": 9.0}, {"train_loss": 9.0}), ({"train-loss": 9.0, "train_loss": 9.0},) * 2])
def test_the_loss_is_what_all_report_by_the_first_of_its_names(others) -> None:
    def weighed(name: str, *more: dict[str, float]) -> Coefficients:
        members = told(*({name: loss, **other} for loss, other in zip((1.0, 2.0, 3.0), more or ({},) * 3, strict=True)))
        return STRATEGIES["qfedavg"]({}).weigh(cohort(members, np.eye(3)))

    assert weighed("loss", {}, *others) == weighed("train-loss") == weighed("train_loss")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("fedavgm", {"momentum": 1}, "spec.strategy.parameters.momentum: fedavgm takes 0 to 0.9999, not 1"),
        ("fedavgm", {"beta": 0.9}, "spec.strategy.parameters: fedavgm has no 'beta'; it has eta, momentum"),
        ("fedadagrad", {"beta2": 0.9}, "spec.strategy.parameters: fedadagrad has no 'beta2'; it has beta1, eta, tau"),
        ("fedadam", {"tau": 0}, "spec.strategy.parameters.tau: fedadam takes 1e-12 to 10, not 0"),
        ("fedyogi", {"beta1": -0.1}, "spec.strategy.parameters.beta1: fedyogi takes 0 to 0.9999, not -0.1"),
        ("fedprox", {"mu": -1}, "spec.strategy.parameters.mu: fedprox takes 0 to 1000, not -1"),
        ("fednova", {"mu": 1}, "spec.strategy.parameters: fednova has no 'mu'; it has none"),
        ("qfedavg", {"q": 21}, "spec.strategy.parameters.q: qfedavg takes 0 to 20, not 21"),
        ("normclip", {"norm": 0}, "spec.strategy.parameters.norm: normclip takes 1e-09 to 1e+09, not 0"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_with_what_does(name, parameters, message) -> None:
    with pytest.raises(BadInput) as refused:
        make(StrategySpec(name=name, parameters=parameters))

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("name", "parameters", "metrics", "message"),
    [
        (
            "fednova",
            {},
            ({"num-steps": 5}, {"loss": 1}, {"num-steps": 0}),
            "fednova needs the metric num-steps, from 1 to 1e+09, of every cluster, and has none of b, c: "
            "return the number of local steps from the app's train function",
        ),
        (
            "qfedavg",
            {},
            ({"loss": 1}, {"train-loss": 1, "accuracy": 1}, {}),
            "qfedavg needs a loss by one name of every cluster (loss or train-loss or train_loss), "
            "and has a ['loss'], b ['train-loss'], c []: return it as a metric from the app's train function",
        ),
        (
            "qfedavg",
            {},
            ({"loss": 1}, {"loss": -1}, {"loss": -2}),
            "qfedavg needs losses of 0 or more, and loss is negative for b, c: return another loss",
        ),
        (
            "qfedavg",
            {"q": 20},
            ({"loss": 1}, {"loss": 1}, {"loss": 1e300}),
            "qfedavg cannot raise a loss of 1e+300 to the power of 20: training has diverged, or q is too large",
        ),
    ],
)
def test_members_that_do_not_say_enough_are_told_what_to_report(name, parameters, metrics, message) -> None:
    with pytest.raises(CannotFold) as refused:
        STRATEGIES[name](parameters).weigh(cohort(told(*metrics), np.eye(3)))

    assert str(refused.value) == message


FLOWER = json.loads((Path(__file__).parents[2] / "golden/flwr_strategies.json").read_text())
"""Written by the program beside it, with Flower 1.41."""


def corrected(training_round: int) -> dict[str, float]:
    """The learning rate that makes our Adam take Flower's steps; `fedadam` says why they differ."""
    return {"eta": 0.1 * np.sqrt(1 - 0.99 ** (training_round + 1)) / (1 - 0.9 ** (training_round + 1))}


@pytest.mark.parametrize(
    ("name", "parameters_of"),
    [
        ("fedavg", lambda training_round: {}),
        ("fedavgm", lambda training_round: {"momentum": 0.9, "eta": 0.5}),
        ("fedadagrad", lambda training_round: {}),
        ("fedadam", corrected),
        ("fedyogi", lambda training_round: {}),
        ("fedprox", lambda training_round: {"mu": 0.25}),
        ("qfedavg", lambda training_round: {"q": 2, "clientLearningRate": 0.5}),
    ],
)
def test_the_numbers_are_those_of_flower(name, parameters_of) -> None:
    model, models = np.array(FLOWER["model"]), []
    memory = tuple(np.zeros((STRATEGIES[name]({}).memories, len(model))))
    for number, answers in enumerate(FLOWER["rounds"], 1):
        members = [Member(f"{n}", answer["examples"], {"train_loss": answer["loss"]}) for n, answer in enumerate(answers)]
        updates = np.array([answer["update"] for answer in answers])
        model, memory = step(STRATEGIES[name](parameters_of(number)), model, memory, number, updates, members)
        models.append(model)

    assert np.array(models) == pytest.approx(np.array(FLOWER[name]["models"]), rel=1e-5, abs=1e-6)
    assert {**STRATEGIES[name](parameters_of(1)).tells, "server-round": 3} == FLOWER[name]["told"]


def test_flowers_adam_takes_three_quarters_of_our_first_step() -> None:
    assert corrected(1)["eta"] / 0.1 == pytest.approx(0.7425, abs=1e-4)
    assert corrected(300)["eta"] / 0.1 == pytest.approx(0.98, abs=0.005)
