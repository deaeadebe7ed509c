"""The hub's clusters and what is said of them, kept up to date change by change: one inventory that placement reads.

`ocm.reading` reads a whole hub. A hub of ten thousand clusters changes one cluster at a time, so here each object is read when it changes.
Decisions that show our own runs are left out: the log tells of these, and a cluster must not count twice as busy.
"""

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from fedplane.runtime.objects import Change, ChangeType, Key, key_of
from fedplane.scheduler.ocm.inventory import Decision, Inventory, ManagedCluster
from fedplane.scheduler.ocm.reading import read
from fedplane.scheduler.publishing import run_of
from fedplane.schemas.names import is_name

__all__ = ["Overview"]


class Overview:
    """What is known of the hub. Nothing may be decided from `inventory` until it is `known`.

    `unsaid` are clusters that cannot be advertised, so that no run can be placed there.
    """

    def __init__(self) -> None:
        self.known = False
        self.unsaid: set[str] = set()
        self.clusters: dict[str, ManagedCluster] = {}
        self._scores: dict[Key, Any] = {}
        self._sets: dict[str, Any] = {}
        self._bindings: dict[Key, Any] = {}
        self._decisions: dict[Key, Decision] = {}
        self._ours: dict[Key, tuple[str, tuple[str, ...]]] = {}
        self.inventory = Inventory(clusters=self.clusters, sets=self._sets, scores=self._scores)

    def see(self, change: Change) -> tuple[str, ...]:
        """Take a change in; what of the object could not be read, a sentence each."""
        found, problems = read([change.object])
        key, gone = key_of(change.object), change.type is ChangeType.DELETED
        match change.object.get("kind"):
            case "ManagedCluster":
                _keep(self.clusters, key[1], found.clusters.get(key[1]), gone)
                self.unsaid.discard(key[1])
            case "ManagedClusterSet":
                _keep(self._sets, key[1], found.sets.get(key[1]), gone)
            case "AddOnPlacementScore":
                _keep(self._scores, key, found.scores.get(key), gone)
            case "ManagedClusterSetBinding":
                _keep(self._bindings, key, next(iter(found.bindings), None), gone)
                self.inventory = replace(self.inventory, bindings=tuple(self._bindings.values()))
            case "PlacementDecision":
                self._see_decision(change.object, key, next(iter(found.decisions), None), gone)
        return problems

    def published(self) -> dict[str, frozenset[str]]:
        """The clusters that the hub shows for each run of ours."""
        shown: dict[str, frozenset[str]] = {}
        for run, clusters in self._ours.values():
            shown[run] = shown.get(run, frozenset()) | frozenset(clusters)
        return shown

    def is_complete(self, fleet: Container[str]) -> bool:
        """Whether the fleet has every cluster of the hub. A run is placed once, so not on the first few that were advertised."""
        return self.known and all(name in fleet or name in self.unsaid or not is_name(name) for name in self.clusters)

    def _see_decision(self, body: Mapping[str, Any], key: Key, decision: Decision | None, gone: bool) -> None:
        run = "" if gone else run_of(body)
        _keep(self._ours, key, (run, decision.clusters) if decision else None, not run)
        _keep(self._decisions, key, decision, gone or bool(run))
        self.inventory = replace(self.inventory, decisions=tuple(self._decisions.values()))


def _keep(entries: dict[Any, Any], key: object, value: object | None, gone: bool) -> None:
    if gone or value is None:
        entries.pop(key, None)
    else:
        entries[key] = value
