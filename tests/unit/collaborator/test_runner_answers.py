"""What becomes of an app's answer before it leaves the app's environment."""

from typing import Any

import numpy as np
import pytest

from fedplane.collaborator.frameworks import Unanswerable
from fedplane.collaborator.frameworks.answers import BFLOAT16, Answer, Tensors, checked, without_bfloat16

MODEL: Tensors = {"bias": np.zeros(2, np.float32), "steps": np.array(0)}


def test_a_good_answer_is_put_into_the_order_of_the_model() -> None:
    answer = checked(Answer(10, {"loss": 1}, {"steps": np.array(5), "bias": np.ones(2, np.float32)}, {"lr": 0.1}), MODEL)

    assert (answer.weight, answer.metrics, answer.configuration) == (10.0, {"loss": 1.0}, {"lr": 0.1})
    assert list(answer.tensors or {}) == ["bias", "steps"]


def test_a_first_model_need_not_be_like_anything() -> None:
    assert checked(Answer(1, {}, MODEL), None) == Answer(1.0, {}, MODEL, {})


def test_an_evaluation_needs_no_tensors() -> None:
    assert checked(Answer(3, {"accuracy": 0.5}), MODEL) == Answer(3.0, {"accuracy": 0.5}, None, {})


WRONG: dict[str, tuple[Answer, str, str]] = {
    "a tensor is missing": (
        Answer(1, {}, {"bias": MODEL["bias"]}),
        "wrong-layout",
        "the app must return the tensors that it was sent: 'steps' is missing",
    ),
    "a tensor is unexpected": (
        Answer(1, {}, {**MODEL, "extra": np.zeros(1)}),
        "wrong-layout",
        "the app must return the tensors that it was sent: 'extra' is unexpected",
    ),
    "a shape and a dtype differ": (
        Answer(1, {}, {"bias": np.zeros((2, 1), np.float32), "steps": np.array(0.0)}),
        "wrong-layout",
        "the app must return the tensors that it was sent: "
        "'bias' is float32[2, 1] and was float32[2]; 'steps' is float64[] and was int64[]",
    ),
    "everything is different": (
        Answer(1, {}, {str(number): np.zeros(1) for number in range(5)}),
        "wrong-layout",
        "the app must return the tensors that it was sent: "
        "'bias' is missing; 'steps' is missing; '0' is unexpected; '1' is unexpected; '2' is unexpected; and 2 more",
    ),
    "a value is not a number": (
        Answer(1, {}, {**MODEL, "bias": np.array([1, np.nan], np.float32)}),
        "not-finite",
        "tensor 'bias' has values that are infinite or not a number; has training diverged?",
    ),
    "a bfloat16 is there": (
        Answer(1, {}, {**MODEL, "bias": np.array([(0x3F80,), (0x7F80,)], BFLOAT16)}),
        "wrong-layout",
        "the app must return the tensors that it was sent: 'bias' is bfloat16[2] and was float32[2]",
    ),
    "a metric is a list": (Answer(1, {"loss": [1, 2]}), "app-raised", "metric 'loss' is a list; return one number"),
    "a metric is infinite": (
        Answer(1, {"loss": float("inf")}),
        "not-finite",
        "metric 'loss' is inf; return a finite number, or leave it out",
    ),
    "the weight is missing": (
        Answer(None, {}),
        "no-weight",
        "the app did not say how many examples it used; return the metric num-examples",
    ),
    "the weight is zero": (
        Answer(0, {}),
        "no-weight",
        "the number of examples must be positive, and the app said num-examples = 0",
    ),
    "the weight is a list": (
        Answer([3, 4], {}),
        "no-weight",
        "the number of examples must be positive, and the app said num-examples = [3, 4]",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "reason", "message"), WRONG.values(), ids=WRONG)
def test_an_answer_that_cannot_be_used_is_refused_with_its_reason(answer: Any, reason: str, message: str) -> None:
    with pytest.raises(Unanswerable) as refused:
        checked(answer, MODEL)

    assert (refused.value.reason, str(refused.value)) == (reason, message)


@pytest.mark.parametrize(("bits", "finite"), [(0x3F80, True), (0x7F7F, True), (0x7F80, False), (0xFF80, False), (0x7FC0, False)])
def test_what_a_bfloat16_is_worth_is_seen_in_its_bits(bits: int, finite: bool) -> None:
    half = {"half": np.array([(0,), (bits,)], BFLOAT16)}

    if finite:
        assert checked(Answer(1, {}, half), half) == Answer(1.0, {}, half)
        return
    with pytest.raises(Unanswerable, match="tensor 'half' has values that are infinite or not a number"):
        checked(Answer(1, {}, half), half)


def test_an_app_that_has_only_what_numpy_has_is_not_given_a_bfloat16() -> None:
    with pytest.raises(Unanswerable, match="tensor 'half' is bfloat16, which numpy and hence this app does not have; use float32"):
        without_bfloat16({**MODEL, "half": np.zeros(2, BFLOAT16)})
