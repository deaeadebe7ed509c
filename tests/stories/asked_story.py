"""The log of a run whose server is the app's own, told to a driver's core."""

from dataclasses import dataclass, field
from typing import Any

from aggregator_story import NOW, RUN, asked, contributed, declined, resource, scheduled

from fedplane.collaborator.driver.replay import Driven, Driver, DriverState, Wanted
from fedplane.runtime.ports import Recorded
from fedplane.schemas.facts import Aggregated, Asked, Fact, Rejected, RoundFailed, Started, Submitted
from fedplane.schemas.models import Model, Task

__all__ = ["Told", "aggregated", "failed", "rejected", "started", "submitted", "wanted"]


def submitted(**spec: Any) -> Submitted:
    return Submitted(run=RUN, at=NOW, resource=resource(**{"strategy": {"name": "app"}, **spec}))


def started() -> Started:
    return Started(run=RUN, at=NOW, strategy="app", training_rounds=3)


def aggregated(round_: int, *members: str, model: Model | None = None, **metrics: float) -> Aggregated:
    told = {"task": Task.REPLY, "training_round": round_ + 1, "members": members, "weight": 2, "metrics": metrics, "model": model}
    return Aggregated(run=RUN, round=round_, at=NOW, **told)


def failed(round_: int) -> RoundFailed:
    return RoundFailed(run=RUN, round=round_, at=NOW, reason="unfoldable", message="the shards are too many")


def rejected(round_: int, cluster: str) -> Rejected:
    return Rejected(run=RUN, round=round_, cluster=cluster, at=NOW, reason="unacceptable", message="it is not cut into shards")


def wanted(of: Asked, **other: str) -> list[Wanted]:
    """What the server wants that was asked so, or something else in some of it."""
    told = [(each.cluster, each.kind, each.group, of.contents[each.content].digest) for each in of.instructions]
    return [Wanted(cluster, other.get("kind", kind), other.get("group", group), digest) for cluster, kind, group, digest in told]


@dataclass
class Told:
    """A driver's core and the log it has read; the run is on a, b and c and has started."""

    spec: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.core = Driver()
        self.log: list[Fact] = []
        self.state: DriverState = self.core.initial()
        self.tell(submitted(**self.spec), scheduled("c", "a", "b"), started())

    @property
    def driven(self) -> Driven:
        return self.state.runs[RUN]

    def tell(self, *facts: Fact) -> None:
        for fact in facts:
            self.log.append(fact)
            self.state = self.core.evolve(self.state, Recorded(fact, len(self.log)))

    def round(self, number: int, *clusters: str, declines: str = "") -> Asked:
        """A round that is over, in which all of them replied but for whoever declines."""
        question = asked(number, *clusters)
        self.tell(question)
        for cluster in clusters:
            self.tell(declined(number, cluster) if cluster == declines else contributed(number, cluster))
        self.tell(aggregated(number, *sorted(set(clusters) - {declines})))
        return question
