"""What noise costs: both accountants beside closed forms that know nothing of them, and what follows for the noise that a budget leaves."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from fedplane.privacy.accounting import Accountant, epsilon, multiplier

every_accountant = pytest.mark.parametrize("accountant", ["pld", "rdp"])


def exact(noise: float, delta: float) -> float:
    """The epsilon of Gaussian noise once, with equality (Balle and Wang 2018, theorem 8)."""

    def excess(value: float) -> float:
        shift, spread = 1 / (2 * noise), value * noise
        return float(norm.cdf(shift - spread) - math.exp(value + norm.logcdf(-shift - spread)) - delta)

    return float(brentq(excess, 0, 1000 + 2 / noise**2, xtol=1e-12)) if excess(0) > 0 else 0.0


def renyi(noise: float, delta: float, rounds: int) -> float:
    """The best of many orders, turned into epsilon (Canonne, Kamath and Steinke 2020, proposition 12)."""
    orders = [1 + step / 1000 for step in range(50, 400_000, 7)]
    return min(
        rounds * order / (2 * noise**2) + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1) for order in orders
    )


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5, 1.0, 3.0, 30.0, 1000.0])
@pytest.mark.parametrize("delta", [1e-25, 1e-9, 1e-5, 0.1])
def test_privacy_loss_distributions_are_above_the_exact_epsilon_and_hardly_so(noise: float, delta: float) -> None:
    told, true = epsilon(noise, delta, 1, "pld"), exact(noise, delta)

    assert true <= told <= true * 1.0003


@pytest.mark.parametrize(("noise", "rounds"), [(1.0, 1), (1.0, 100), (5.0, 10), (2.0, 1)])
def test_renyis_accountant_is_above_the_closed_form_by_no_more_than_its_few_orders_cost(noise: float, rounds: int) -> None:
    told, best = epsilon(noise, 1e-5, rounds, "rdp"), renyi(noise, 1e-5, rounds)

    assert best <= told * (1 + 1e-6) <= best * 1.01


def test_what_everybody_quotes_of_a_multiplier_of_one_comes_out() -> None:
    assert epsilon(1.0, 1e-5, 1, "pld") == pytest.approx(4.3772, abs=1e-4)


@every_accountant
def test_rounds_cost_as_much_as_one_with_less_noise(accountant: Accountant) -> None:
    assert epsilon(6.0, 1e-5, 9, accountant) == epsilon(2.0, 1e-5, 1, accountant)
    assert epsilon(6.0, 1e-5, 0, accountant) == 0


@every_accountant
def test_hardly_any_noise_protects_nobody(accountant: Accountant) -> None:
    assert epsilon(1e-300, 1e-5, 1, accountant) == epsilon(1.0, 1e-5, 10**9, accountant) == math.inf


@every_accountant
def test_a_delta_next_to_one_costs_no_more_than_one_that_is_a_little_farther_away(accountant: Accountant) -> None:
    assert epsilon(0.01, 1 - 1e-16, 1, accountant) == epsilon(0.01, 1 - 1e-9, 1, accountant)
    assert multiplier(1000.0, 1 - 1e-16, 100_000, accountant) > 0


@settings(max_examples=6, deadline=None)
@given(st.floats(0.05, 50), st.sampled_from([1e-9, 1e-5, 0.01]), st.integers(1, 10_000))
def test_the_noise_for_a_budget_keeps_to_it_and_less_would_not(budget: float, delta: float, rounds: int) -> None:
    for accountant in ("pld", "rdp"):
        least = multiplier(budget, delta, rounds, accountant)

        assert epsilon(least, delta, rounds, accountant) <= budget
        assert epsilon(least * 0.999, delta, rounds, accountant) > budget


def test_a_bound_that_knows_more_needs_less_noise() -> None:
    assert multiplier(1.0, 1e-5, 100, "pld") < multiplier(1.0, 1e-5, 100, "rdp") < multiplier(1.0, 1e-5, 100, "pld") * 1.15
