"""Which taints are tolerated, and until when."""

from datetime import UTC, datetime, timedelta

import pytest

from fedplane.scheduler.ocm.inventory import Taint
from fedplane.scheduler.ocm.taints import Tolerance, earliest, misconfigured, tolerance
from fedplane.schemas.placements import Toleration

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
TOLERATED = Tolerance()
GPU = Taint("gpu", "yes")


def tolerations(*written):
    return [Toleration.model_validate(each) for each in written]


@pytest.mark.parametrize(
    ("taint", "written", "tolerated"),
    [
        (GPU, {"key": "gpu", "value": "yes"}, True),
        (GPU, {"key": "gpu", "operator": "Equal", "value": "no"}, False),
        (GPU, {"key": "gpu", "operator": "", "value": "yes"}, True),
        (GPU, {"key": "gpu"}, False),
        (GPU, {"key": "gpu", "operator": "Exists"}, True),
        (GPU, {"operator": "Exists"}, True),
        (GPU, {"key": "cpu", "operator": "Exists"}, False),
        (GPU, {"key": "gpu", "operator": "Exists", "effect": "NoSelect"}, True),
        (GPU, {"key": "gpu", "operator": "Exists", "effect": "NoSelectIfNew"}, False),
        (Taint("gpu"), {"key": "gpu"}, True),
    ],
)
def test_a_toleration_fits_a_taint_by_key_value_and_effect(taint, written, tolerated):
    assert tolerance([taint], tolerations(written), False, NOON) == (TOLERATED if tolerated else Tolerance(intolerable=taint))


@pytest.mark.parametrize(
    ("effect", "new", "chosen"),
    [("NoSelect", False, False), ("PreferNoSelect", True, True), ("NoSelectIfNew", False, True)],
)
def test_an_effect_says_whom_a_taint_keeps_away(effect, new, chosen):
    taint = Taint("busy", effect=effect)

    assert [tolerance([taint], (), has, NOON) == TOLERATED for has in (False, True)] == [new, chosen]


def test_without_taints_there_is_nothing_to_tolerate():
    assert tolerance((), (), False, NOON) == TOLERATED


def test_a_toleration_for_a_while_ends_that_long_after_the_taint_was_added():
    away = Taint("unreachable", added=NOON)
    while_ = tolerations({"key": "unreachable", "operator": "Exists", "tolerationSeconds": 300})
    end = NOON + timedelta(seconds=300)

    assert [tolerance([away], while_, False, NOON + timedelta(seconds=after)) for after in (0, 299.999, 300, 301)] == [
        Tolerance(until=end), Tolerance(until=end), Tolerance(intolerable=away), Tolerance(intolerable=away)
    ]  # fmt: skip


def test_the_first_toleration_that_holds_counts_and_the_taint_that_ends_first():
    taints = [Taint("a", added=NOON), Taint("b", added=NOON - timedelta(seconds=50))]
    written = tolerations(
        {"key": "a", "operator": "Exists", "tolerationSeconds": 0},
        {"key": "a", "operator": "Exists", "tolerationSeconds": 100},
        {"operator": "Exists", "tolerationSeconds": 60},
        {"operator": "Exists"},
    )

    assert tolerance(taints, written, False, NOON) == Tolerance(until=NOON + timedelta(seconds=10))
    assert tolerance(taints[:1], written, False, NOON) == Tolerance(until=NOON + timedelta(seconds=100))


@pytest.mark.parametrize(
    ("added", "seconds", "tolerated"),
    [(None, 10**6, False), (NOON, 10**30, True), (NOON, -(10**30), False), (NOON + timedelta(days=1), -60, True)],
)
def test_a_time_without_sense_is_no_accident(added, seconds, tolerated):
    written = tolerations({"operator": "Exists", "tolerationSeconds": seconds})

    assert (tolerance([Taint("a", added=added)], written, False, NOON).intolerable is None) == tolerated


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ({"value": "yes"}, "If the key is empty, operator must be Exists."),
        ({"key": "gpu", "operator": "Exists", "value": "yes"}, "If the operator is Exists, the value should be empty."),
        ({"key": "gpu"}, None),
    ],
)
def test_what_is_wrong_in_a_toleration_is_said_as_upstream_says_it(written, wrong):
    assert misconfigured(tolerations(written)) == wrong


def test_the_earliest_time_is_none_if_there_are_none():
    assert (earliest([None, NOON, NOON - timedelta(1)]), earliest([None]), earliest([])) == (NOON - timedelta(1), None, None)
