"""Whatever budget a resource may name, it is refused with a sentence or can be computed: an error would end every aggregator."""

import math
from itertools import product
from typing import Any

import pytest

from fedplane.aggregator import budgets
from fedplane.aggregator.strategies import make
from fedplane.runtime.errors import BadInput
from fedplane.schemas.privacy import CLIP_MAX, CLIP_MIN, DELTA_MIN, EPSILON_MAX, EPSILON_MIN, MULTIPLIER_MAX, MULTIPLIER_MIN
from fedplane.schemas.resources import ROUNDS_MAX, Spec

ALMOST_ONE = 1 - 1e-9
BUDGETS = [(None, MULTIPLIER_MIN), (None, MULTIPLIER_MAX), *product((EPSILON_MIN, EPSILON_MAX), (None, MULTIPLIER_MIN, MULTIPLIER_MAX))]


@pytest.mark.parametrize(
    ("delta", "rounds", "accountant"),
    [(DELTA_MIN, ROUNDS_MAX, "pld"), (ALMOST_ONE, 1, "pld"), (DELTA_MIN, 1, "rdp"), (ALMOST_ONE, ROUNDS_MAX, "rdp")],
)
def test_a_budget_at_the_ends_of_its_bounds_is_refused_or_computed(delta: float, rounds: int, accountant: str) -> None:
    for (epsilon, multiplier), clip in product(BUDGETS, (CLIP_MIN, CLIP_MAX)):
        spec = asking({"epsilon": epsilon, "noiseMultiplier": multiplier, "delta": delta, "clip": clip, "accountant": accountant}, rounds)
        try:
            budgets.check(spec, make(spec.strategy), has_secret=True)
        except BadInput as refused:
            assert "spec.privacy.differentialPrivacy.central" in str(refused)
        else:
            budget = budgets.budget_of(spec)
            assert budget is not None
            assert math.isfinite(budget.cost(1)) and budget.cost(1) <= budget.epsilon
            assert budgets.exhausted(spec, 0) is None


def asking(central: dict[str, Any], rounds: int) -> Spec:
    server = {"rounds": rounds, "minAvailableClients": 3}
    return Spec.model_validate({"framework": "other", "server": server, "privacy": {"differentialPrivacy": {"central": central}}})
