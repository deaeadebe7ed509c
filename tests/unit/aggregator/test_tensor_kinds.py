"""What becomes of which tensor, as `docs/how-to/choose-a-strategy.md` promises it: from files that safetensors writes to one it reads."""

import ml_dtypes
import numpy as np
import pytest
from fold_story import fold_models

from fedplane.aggregator.strategies import STRATEGIES
from fedplane.aggregator.strategies.algebra import Coefficients, Strategy

FEDAVG = STRATEGIES["fedavg"]({})
ADAM = STRATEGIES["fedadam"]({})
HALVES = (np.float16, ml_dtypes.bfloat16)


def test_scalars_and_tensors_without_elements_are_folded_among_others() -> None:
    def model(value: float) -> dict[str, np.ndarray]:
        return {
            "empty": np.zeros((0, 3), np.float32), "scalar": np.array(value, np.float32), "nothing": np.zeros(0, np.int64),
            "steps": np.array(int(value), np.int64), "w": np.full((3, 3), value, np.float32),
        }  # fmt: skip

    folded = fold_models(FEDAVG, [model(1), model(3)])

    assert {name: (tensor.shape, tensor.tolist()) for name, tensor in folded.items()} == {
        name: (tensor.shape, tensor.tolist()) for name, tensor in model(2).items()
    }


def test_a_model_of_tensors_without_elements_stays_one() -> None:
    folded = fold_models(FEDAVG, [{"empty": np.zeros((0, 3), np.float32)}] * 2)

    assert {name: tensor.shape for name, tensor in folded.items()} == {"empty": (0, 3)}


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "fedmedian", "trimmedmean", "normclip", "multikrum", "rfa", "bulyan"])
def test_tied_weights_that_are_sent_twice_stay_equal_to_the_bit(strategy) -> None:
    random = np.random.default_rng(0)

    def model() -> dict[str, np.ndarray]:
        tied = random.standard_normal((5, 3)).astype(np.float32)
        return {"embedding": tied, "head": tied, "middle": random.standard_normal(4).astype(np.float32)}

    folded = fold_models(STRATEGIES[strategy]({}), [model() for _ in range(7)], model(), weights=[1, 2, 3, 4, 5, 6, 7])

    assert folded["embedding"].tolist() == folded["head"].tolist()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("strategy", [FEDAVG, STRATEGIES["fedmedian"]({}), STRATEGIES["trimmedmean"]({})])
def test_the_largest_half_precision_numbers_do_not_overflow(dtype, strategy) -> None:
    largest = np.full(9, ml_dtypes.finfo(dtype).max, dtype)
    folded = fold_models(strategy, [{"w": largest}] * 8, weights=[1e6] * 8)

    assert folded["w"].tolist() == largest.tolist()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_thousand_half_precision_updates_are_averaged_as_if_they_were_doubles(dtype) -> None:
    updates = np.random.default_rng(0).standard_normal((1000, 7)).astype(dtype)
    folded = fold_models(FEDAVG, [{"w": update} for update in updates])

    assert folded["w"].tolist() == updates.astype(np.float64).mean(axis=0).astype(dtype).tolist()


def test_a_step_that_half_precision_cannot_see_is_not_lost_before_the_end() -> None:
    model = {"w": np.ones(1, ml_dtypes.bfloat16)}
    up = {"w": np.array([1.0078125]).astype(ml_dtypes.bfloat16)}

    assert fold_models(FEDAVG, [up, up, {"w": np.ones(1, ml_dtypes.bfloat16)}], model)["w"].tolist() == [1.0078125]


def integers(*values: int, dtype: type = np.int64) -> list[dict[str, np.ndarray]]:
    return [{"batches": np.array([value], dtype)} for value in values]


def test_integers_are_averaged_and_rounded_halves_to_even() -> None:
    def mean(*values: int) -> int:
        return int(fold_models(FEDAVG, integers(*values))["batches"][0])

    assert [mean(10, 13), mean(10, 11), mean(11, 12), mean(10, 10, 12), mean(-1, -2)] == [12, 10, 12, 11, -2]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("rest", [-3.0, 4.0])
def test_integers_that_leave_their_range_become_its_end(dtype, rest) -> None:
    ends = np.iinfo(dtype)
    model = {"n": np.array([ends.max], dtype)}
    beyond = Strategy(lambda cohort: Coefficients((1.0,), 1.0, rest))
    folded = int(fold_models(beyond, [{"n": np.array([ends.max // 2], dtype)}], model)["n"][0])

    assert folded == pytest.approx(ends.min if rest < 0 else ends.max, rel=1e-15)


def test_a_server_optimizer_leaves_counters_alone_and_the_mean_is_what_they_become() -> None:
    def model(steps: int) -> dict[str, np.ndarray]:
        return {"steps": np.array(steps, np.int64), "w": np.full(4, float(steps), np.float32)}

    folded = fold_models(ADAM, [model(10), model(20)], model(0))

    assert folded["steps"].tolist() == 15
    assert folded["w"] == pytest.approx(np.full(4, 0.1 * 1.5 / (1.5 + 1e-3)), rel=1e-6), "15 and 225, a tenth and a hundredth of which"


def test_booleans_become_what_the_majority_says_and_true_when_it_is_even() -> None:
    updates = [{"mask": np.array(values)} for values in ([True, False, True], [False, False, True], [False, True, False])]

    assert fold_models(FEDAVG, updates, weights=[2, 1, 1])["mask"].tolist() == [True, False, True]
    assert fold_models(FEDAVG, updates, weights=[1, 3, 3])["mask"].tolist() == [False, False, True]
