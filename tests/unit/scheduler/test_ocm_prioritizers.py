"""What each prioritizer gives, in numbers that were computed by hand from Open Cluster Management's formulas."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from fedplane.scheduler.ocm.amounts import amount, approximate
from fedplane.scheduler.ocm.inventory import AddOnPlacementScore, ManagedCluster
from fedplane.scheduler.ocm.prioritizers import Circumstances, Prioritized, misconfigured, prioritize, totals
from fedplane.schemas.placements import PrioritizerPolicy

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def circumstances(others=None, own=(), scores=()):
    found = {(score.cluster, score.name): score for score in scores}
    return Circumstances(Counter(others or {}), frozenset(own), found, NOON)


def only(**coordinate):
    return {"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate}]}


def said(policy, clusters, around):
    return prioritize(PrioritizerPolicy.model_validate(policy), clusters, around)


def clusters(*names):
    return [ManagedCluster(name=name) for name in names]


def holding(resource, **amounts):
    return [ManagedCluster(name=name, allocatable={resource: held}, capacity={resource: held}) for name, held in amounts.items()]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, {"a": 100, "b": 100, "c": 100}),
        ({"a": 1, "b": 2, "c": 3}, {"a": 32, "b": -32, "c": -100}),  # 100 * (0.5 - 1/3) = 16.7, cut to 16, doubled
        ({"a": 1, "b": 3}, {"a": 32, "b": -100, "c": 100}),
        ({"a": 1, "b": 1}, {"a": -100, "b": -100, "c": 100}),
        ({"a": 1, "b": 3, "elsewhere": 4}, {"a": 50, "b": -50, "c": 100}),  # the scale is who has most, candidate or not
        ({"a": 3, "b": 5, "elsewhere": 7}, {"a": 14, "b": -42, "c": 100}),  # 7.14 and -21.43, cut toward zero, doubled
        ({"a": 1, "elsewhere": 100}, {"a": 98, "b": 100, "c": 100}),  # next to nothing is not nothing
    ],
)
def test_balance_prefers_whom_others_have_not_chosen(others, expected):
    assert said(only(builtIn="Balance"), clusters("a", "b", "c"), circumstances(others)) == (Prioritized("Balance", 1, expected),)


def test_steady_prefers_who_is_chosen_and_pushes_nobody_away():
    assert said(only(builtIn="Steady"), clusters("a", "b"), circumstances(own=["b", "gone"])) == (
        Prioritized("Steady", 1, {"a": 0, "b": 100}),
    )


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({"a": 4.0, "b": 8.0, "c": 16.0}, {"a": -100, "b": -33, "c": 100}),  # (4/12 - 0.5) * 200 = -33.3
        ({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 5.0}, {"a": -100, "b": -50, "c": 0, "d": 50, "e": 100}),
        ({"a": 3.5, "b": 7.5, "c": 12.0}, {"a": -100, "b": -5, "c": 100}),  # (4/8.5 - 0.5) * 200 = -5.9
        ({"a": 0.0, "b": 57.0, "c": 100.0}, {"a": -100, "b": 13, "c": 100}),  # 14 exactly, and 13.99... in doubles: Go cuts it to 13
        ({"a": 8.0, "b": 8.0}, {"a": 100, "b": 100}),
        ({"a": 0.0}, {"a": 100}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize(("name", "resource"), [("ResourceAllocatableCPU", "cpu"), ("ResourceAllocatableMemory", "memory")])
def test_allocatable_is_a_straight_line_from_the_least_to_the_most(name, resource, amounts, expected):
    assert said(only(builtIn=name), holding(resource, **amounts), circumstances()) == (Prioritized(name, 1, expected),)


def test_who_lacks_the_resource_or_its_capacity_has_no_score_and_is_no_scale():
    known = holding("cpu", a=4.0, b=8.0)
    unknown = [ManagedCluster(name="c", allocatable={"cpu": 64.0}), ManagedCluster(name="d", capacity={"cpu": 1.0})]
    found = said(only(builtIn="ResourceAllocatableCPU"), known + unknown, circumstances())

    assert found == (Prioritized("ResourceAllocatableCPU", 1, {"a": -100, "b": 100}),)
    assert totals(known + unknown, found) == {"a": -100, "b": 100, "c": 0, "d": 0}


def test_an_add_ons_score_counts_until_it_expires_and_is_0_otherwise():
    scores = [
        AddOnPlacementScore("a", "usage", (("gpu", -7), ("cpu", 1))),
        AddOnPlacementScore("b", "usage", (("gpu", 40),), valid_until=NOON),
        AddOnPlacementScore("c", "usage", (("gpu", 40),), valid_until=NOON - timedelta(seconds=1)),
        AddOnPlacementScore("d", "usage", (("cpu", 40),)),
        AddOnPlacementScore("e", "other", (("gpu", 40),)),
        AddOnPlacementScore("f", "usage", (("gpu", 1), ("gpu", 2))),
    ]
    policy = only(type="AddOn", addOn={"resourceName": "usage", "scoreName": "gpu"})

    assert said(policy, clusters(*"abcdef"), circumstances(scores=scores)) == (
        Prioritized("AddOn/usage/gpu", 1, {"a": -7, "b": 40, "c": 0, "d": 0, "e": 0, "f": 2}, expired=("c",)),
    )


CPU = {"builtIn": "ResourceAllocatableCPU"}
GPU = {"type": "AddOn", "addOn": {"resourceName": "usage", "scoreName": "gpu"}}


@pytest.mark.parametrize(
    ("policy", "weights"),
    [
        ({}, [("Balance", 1), ("Steady", 1)]),
        ({"mode": ""}, [("Balance", 1), ("Steady", 1)]),
        (
            {"configurations": [{"scoreCoordinate": CPU}, {"scoreCoordinate": {"builtIn": "Steady"}, "weight": -3}]},
            [("Balance", 1), ("Steady", -3), ("ResourceAllocatableCPU", 1)],
        ),
        ({"configurations": [{"scoreCoordinate": {"builtIn": "Balance"}, "weight": 0}]}, [("Steady", 1)]),
        ({"mode": "Exact"}, []),
        ({"mode": "Exact", "configurations": [{"scoreCoordinate": CPU, "weight": 10}]}, [("ResourceAllocatableCPU", 10)]),
        (
            {"mode": "Exact", "configurations": [{"scoreCoordinate": CPU, "weight": 2}, {"scoreCoordinate": CPU, "weight": 5}]},
            [("ResourceAllocatableCPU", 5)],
        ),
        (
            {"mode": "Exact", "configurations": [{"scoreCoordinate": GPU, "weight": 2}, {"scoreCoordinate": GPU, "weight": 5}]},
            [("AddOn/usage/gpu", 2), ("AddOn/usage/gpu", 5)],
        ),
        ({"mode": "Exact", "configurations": [{"scoreCoordinate": {"builtIn": "Nonsense"}, "weight": 0}]}, []),
    ],
)
def test_a_policy_adds_to_the_defaults_or_replaces_them(policy, weights):
    assert misconfigured(PrioritizerPolicy.model_validate(policy)) is None
    assert [(each.name, each.weight) for each in said(policy, clusters("a"), circumstances())] == weights


@pytest.mark.parametrize(
    ("policy", "wrong"),
    [
        ({"mode": "Multiplicative"}, "incorrect prioritizer policy mode: Multiplicative"),
        ({"configurations": [{"weight": 1}]}, "scoreCoordinate field is required"),
        (only(builtIn="Spread"), "incorrect builtin prioritizer: Spread"),
        (only(type="AddOn"), "addOn should not be empty"),
    ],
)
def test_what_is_wrong_in_a_policy_is_said_as_upstream_says_it(policy, wrong):
    assert misconfigured(PrioritizerPolicy.model_validate(policy)) == wrong


def test_a_total_is_the_sum_of_score_times_weight():
    found = (Prioritized("Balance", 2, {"a": 32, "b": -100}), Prioritized("Steady", -3, {"a": 0, "b": 100}))

    assert totals(clusters("a", "b", "c"), found) == {"a": 64, "b": -500, "c": 0}


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("4", 4.0),
        ("3900m", 3.9),
        ("1001m", 1.0010000000000001),  # 1001 * 0.001, which is not the double nearest to 1.001
        ("1.5Gi", 1610612736.0),
        ("1e3", 1000.0),
        ("-2", -2.0),
        ("8E", 8e18),
        ("10E", 9.223372036854775807e18),  # cut down to what 64 bits hold
        ("1e999", 9.223372036854775807e18),
        ("1e-999", 1e-09),  # a little is never nothing
        ("0", 0.0),
    ],
)
def test_an_amount_is_the_same_float_as_in_go(text, held):
    assert approximate(amount(text)) == held
