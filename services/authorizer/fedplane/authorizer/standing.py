"""What the log says of everyone who connects: runs in which a cluster takes part, what a subscriber was granted, who was thrown out.

A cluster has rights in a run from `scheduled` until a minute after the run's end, in which it hears of the end.
A subscriber is let in if somebody has granted it, with the certificate that was named then. Everyone else is, unless somebody revokes it.
Of `granted` and `revoked` the later one counts. Folded from facts, so each replica says the same; what time does to it is said by `now`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from fedplane.authorizer.identity import Because, Identity, Refused
from fedplane.schemas.facts import (
    EVERYTHING,
    Archived,
    Cancelled,
    Completed,
    Fact,
    Failed,
    Granted,
    Revoked,
    Scheduled,
    Submitted,
    all_facts_of,
    run_level_facts_of,
)
from fedplane.schemas.patterns import overlap
from fedplane.schemas.roles import Role

__all__ = ["GRACE_SECONDS", "PATTERNS", "Known", "Run", "Standing", "evolve", "judge", "over"]

GRACE_SECONDS = 60.0
"""How long a cluster keeps its rights in a run that has ended, so that its collaborator hears so; a reader asks every 30 s."""

_GRACE = timedelta(seconds=GRACE_SECONDS)

PATTERNS = ((run_level_facts_of("*"),), (Granted.pattern(), Revoked.pattern()))
"""What is to be read for it, by stream."""

MARK_CHARACTERS = 12
"""How much of a digest tells one standing from another: 48 bits, of which a client has a handful in its life."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where a run was submitted from, which clusters take part, and when it ended."""

    namespace: str = ""
    clusters: frozenset[str] = frozenset()
    ended_at: datetime | None = None

    def counts_for(self, cluster: str, now: datetime) -> bool:
        """Whether the cluster has rights in it."""
        return cluster in self.clusters and (self.ended_at is None or now < self.ended_at + _GRACE)


@dataclass(frozen=True, slots=True)
class Known:
    """Runs that were not archived, in the order in which they came, and the last word about each client, by role and name."""

    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    access: Mapping[tuple[str, str], Granted | Revoked] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a grant depends on beside the identity: runs, what may be heard, the one certificate ("": any), and until when."""

    runs: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    certificate: str = ""
    until: datetime | None = None

    @property
    def mark(self) -> str:
        """A digest that stands in the connection's name: a connection with another one has rights of another time."""
        said = repr((self.runs, self.patterns, self.certificate, self.until and self.until.isoformat()))
        return hashlib.sha256(said.encode()).hexdigest()[:MARK_CHARACTERS]


def evolve(known: Known, fact: Fact) -> Known:
    """What the fact means for rights. Participants are chosen once, and a run that has ended stays so."""
    match fact:
        case Granted() | Revoked():
            return replace(known, access={**known.access, (fact.role, fact.name): fact})
        case Submitted(run=run, resource=resource):
            return _with(known, run, replace(_of(known, run), namespace=resource.metadata.namespace))
        case Scheduled(run=run, participants=participants) if not _of(known, run).clusters:
            return _with(known, run, replace(_of(known, run), clusters=frozenset(chosen.cluster for chosen in participants)))
        case Completed(run=run, at=at) | Failed(run=run, at=at) | Cancelled(run=run, at=at) if _of(known, run).ended_at is None:
            return _with(known, run, replace(_of(known, run), ended_at=at))
        case Archived(run=run):
            return replace(known, runs={name: it for name, it in known.runs.items() if name != run})
    return known


def _of(known: Known, run: str) -> Run:
    return known.runs.get(run, Run())


def _with(known: Known, run: str, it: Run) -> Known:
    return replace(known, runs={**known.runs, run: it})


def judge(identity: Identity, known: Known, now: datetime) -> Standing | Refused:
    """What this client may build on now, or why it is not let in at all."""
    said = known.access.get((identity.role, identity.name))
    if isinstance(said, Revoked):
        why = said.message or "no reason given"
        return Refused(f"{identity} was thrown out at {said.at:%Y-%m-%d %H:%M:%S} UTC: {why}", Because.REVOKED)
    if said is None:
        if identity.role is Role.SUBSCRIBER:
            return Refused(f"{identity} was never granted anything; `fedplane access grant` does so", Because.NOT_GRANTED)
        return Standing(_runs(identity, known, now))
    if said.expires_at is not None and said.expires_at <= now:
        return Refused(f"what {identity} was granted ended at {said.expires_at:%Y-%m-%d %H:%M:%S} UTC", Because.EXPIRED)
    if identity.role is Role.SUBSCRIBER:
        if not said.fingerprint:
            return Refused(f"{identity} was granted something without a certificate; grant it anew", Because.NOT_GRANTED)
        return Standing((), _heard(said, known), said.fingerprint, said.expires_at)
    return Standing(_runs(identity, known, now), (), said.fingerprint, said.expires_at)


def _runs(identity: Identity, known: Known, now: datetime) -> tuple[str, ...]:
    if identity.role is not Role.COLLABORATOR:
        return ()
    return tuple(sorted(run for run, it in known.runs.items() if it.counts_for(identity.name, now)))


def _heard(granted: Granted, known: Known) -> tuple[str, ...]:
    """A tenant's runs are named one by one: a run's id does not say whose it is."""
    patterns = granted.patterns or (EVERYTHING,)
    if granted.namespace is None:
        return patterns
    runs = (run for run, it in known.runs.items() if it.namespace == granted.namespace)
    return tuple(both for run in runs for pattern in patterns if (both := overlap(pattern, all_facts_of(run))))


def over(known: Known, now: datetime) -> int:
    """How many runs' grace, and how many grants, are over by now: when this changes, so do somebody's rights, and it is time alone."""
    graces = sum(it.ended_at is not None and now >= it.ended_at + _GRACE for it in known.runs.values())
    granted = (said for said in known.access.values() if isinstance(said, Granted))
    return graces + sum(said.expires_at is not None and said.expires_at <= now for said in granted)
