"""What the page has to know besides runs: what each cluster offers, and what was said last. And what is new of all that since a moment.

Runs come from the views that the status service folds anyway; here are only the fleet and the last facts.
A browser that was away says which places of the streams it has seen, and hears what came after, from whichever replica it reaches.
So a place in the log is what marks a moment, and nothing that only one process knows.

Pure. A page is for looking, so whatever can grow has a bound here, and what is beyond it is on the log.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from fedplane.runtime.ports import Recorded
from fedplane.schemas import facts
from fedplane.schemas.details import detail
from fedplane.schemas.views import RunView
from fedplane.status.page.pictures import summary

__all__ = ["CLUSTERS_KEPT_MAX", "LINES_KEPT_MAX", "Offered", "Onlooker", "Place", "Seen", "news", "offer", "place_of", "within"]

LINES_KEPT_MAX = 500
"""How many facts the page has to show when it is opened: some screens full. `fedplane events --from-start` has all of them."""

CLUSTERS_KEPT_MAX = 10_000
"""How many clusters are kept; beyond it, those are forgotten that were silent for longest."""

ENTRIES_SHOWN_MAX = 50
TEXT_CHARACTERS_MAX = 300
"""How much is shown of what a cluster says of itself: an offer may have a megabyte, and ten thousand of them go to each browser."""


INNER = (facts.Invited, facts.Expired, facts.Measured, facts.Folded)
"""Facts with which services and collaborators talk to each other: one per cluster or shard, and nothing in them that others do not say."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a cluster offers, as a document for the page; the place where it last said something else, and the one where it last spoke."""

    offer: dict[str, Any]
    told: int
    heard: int
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """The state: the fleet by name, in the order in which clusters first spoke, and the last facts about runs as documents."""

    fleet: Mapping[str, Offered]
    lines: tuple[dict[str, Any], ...]


class Onlooker:
    """The core: facts in, nothing to be done."""

    patterns = ((facts.all_facts_of(),), (facts.Advertised.pattern(),))
    tick_seconds = None

    def initial(self) -> Seen:
        """Nothing was said yet."""
        return Seen({}, ())

    def evolve(self, state: Seen, record: Recorded) -> Seen:
        """The state after the fact."""
        if isinstance(record.fact, facts.Advertised):
            return Seen(_with(state.fleet, record.fact, record.sequence), state.lines)
        if isinstance(record.fact, INNER) or (state.lines and record.sequence <= state.lines[-1]["sequence"]):
            return state
        return Seen(state.fleet, (*state.lines, _line(record))[-LINES_KEPT_MAX:])

    def decide(self, state: Seen, now: datetime) -> list[Any]:
        """An onlooker does nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Place:
    """How far somebody has seen: the newest change of a run, the newest fact, the newest word of a cluster."""

    runs: int = 0
    lines: int = 0
    fleet: int = 0

    def __str__(self) -> str:
        return f"{self.runs}-{self.lines}-{self.fleet}"

    @classmethod
    def read(cls, text: str) -> "Place":
        """The place that was written so; the beginning for what is none, as a stranger may send anything."""
        parts = text.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            return cls()
        return cls(*map(int, parts))


def place_of(seen: Seen, runs: Mapping[str, RunView]) -> Place:
    """How far somebody is who has seen all of this."""
    return Place(
        max((view.sequence for view in runs.values()), default=0),
        seen.lines[-1]["sequence"] if seen.lines else 0,
        max((offered.heard for offered in seen.fleet.values()), default=0),
    )


def within(place: Place, now: Place) -> Place:
    """The place, or the beginning if it is beyond what there is now: whoever is there saw another log."""
    return Place() if place.runs > now.runs or place.lines > now.lines or place.fleet > now.fleet else place


def news(seen: Seen, runs: Mapping[str, RunView], since: Place) -> dict[str, Any]:
    """What came after that place."""
    return {
        "runs": [summary(view) for view in runs.values() if view.sequence > since.runs],
        "lines": [line for line in seen.lines if line["sequence"] > since.lines],
        "clusters": [offered.offer for offered in seen.fleet.values() if offered.told > since.fleet],
        "heard": {name: offered.heard_at.isoformat() for name, offered in seen.fleet.items() if offered.heard > since.fleet},
    }


def offer(fact: facts.Advertised) -> dict[str, Any]:
    """What the page shows of an offer, within bounds."""
    return {
        "cluster": fact.cluster,
        "lease_seconds": fact.lease_seconds,
        "claims": _short(fact.claims),
        "allocatable": _short(fact.allocatable),
        "labels": _short(fact.labels),
        "frameworks": [_cut(name) for name in fact.frameworks[:ENTRIES_SHOWN_MAX]],
        "managed": fact.managed,
        "unavailable": _cut(fact.unavailable),
    }


def _with(fleet: Mapping[str, Offered], fact: facts.Advertised, sequence: int) -> Mapping[str, Offered]:
    held = fleet.get(fact.cluster)
    if held is not None and sequence <= held.heard:
        return fleet
    offered = offer(fact)
    told = held.told if held is not None and held.offer == offered else sequence
    if held is None and len(fleet) >= CLUSTERS_KEPT_MAX:
        silent = min(fleet, key=lambda name: (fleet[name].heard, name))
        fleet = {name: each for name, each in fleet.items() if name != silent}
    return {**fleet, fact.cluster: Offered(offered, told, sequence, fact.at)}


def _line(record: Recorded) -> dict[str, Any]:
    fact = record.fact
    return {
        "sequence": record.sequence,
        "at": fact.at.isoformat(),
        "kind": " ".join(fact.type.split(".")[3:-1]),
        "run": getattr(fact, "run", ""),
        "round": getattr(fact, "round", None),
        "cluster": getattr(fact, "cluster", ""),
        "text": _cut(detail(fact)),
    }


def _short(given: Mapping[str, str]) -> dict[str, str]:
    return {_cut(name): _cut(value) for name, value in islice(given.items(), ENTRIES_SHOWN_MAX)}


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[: TEXT_CHARACTERS_MAX - 1] + "…"
