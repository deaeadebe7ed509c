"""Conditions: what a placement's status says, in the words in which Open Cluster Management says it.

Controllers compare reasons and people search for messages, so both are kept to the letter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Condition", "Misconfigured", "misconfigured", "satisfied"]


class Misconfigured(ValueError):
    """The placement cannot be what its user means. `plugin` is the step that found it, if it was one."""

    def __init__(self, said: str, plugin: str = "") -> None:
        super().__init__(said)
        self.plugin = plugin


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; when it changed is the business of whoever writes it."""

    type: str
    status: bool
    reason: str
    message: str


def satisfied(
    *, asked_sets: Sequence[str], sets: Sequence[str], bindings: int, candidates: int, chosen: int, unscheduled: int
) -> Condition:
    """Whether as many clusters are chosen as are asked for, and if not, the first reason why."""
    if not bindings:
        return _unsatisfied("NoManagedClusterSetBindings", "No valid ManagedClusterSetBindings found in placement namespace")
    if not sets:
        return _unsatisfied("NoIntersection", f"None of ManagedClusterSets [{','.join(asked_sets)}] is bound to placement namespace")
    if not candidates:
        return _unsatisfied("AllManagedClusterSetsEmpty", f"All ManagedClusterSets [{','.join(sets)}] have no member ManagedCluster")
    if not chosen:
        return _unsatisfied("NoManagedClusterMatched", "No ManagedCluster matches any of the cluster predicate")
    if unscheduled:
        return _unsatisfied("NotAllDecisionsScheduled", f"{unscheduled} cluster decisions unscheduled")
    return Condition("PlacementSatisfied", True, "AllDecisionsScheduled", "All cluster decisions scheduled")


def misconfigured(wrong: Misconfigured | None) -> Condition:
    """Whether something in the placement cannot be meant."""
    if wrong is None:
        return Condition("PlacementMisconfigured", False, "Succeedconfigured", "Placement configurations check pass")
    return Condition("PlacementMisconfigured", True, "Misconfigured", f"{wrong.plugin}:{wrong}")


def _unsatisfied(reason: str, message: str) -> Condition:
    return Condition("PlacementSatisfied", False, reason, message)
