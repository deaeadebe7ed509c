"""A run whose updates are masked, told to the aggregator by clusters that do as ours do, with secrets that differ from name to name."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aggregator_story import LAYOUT_DIGEST, MODEL_BYTES, NOW, RUN, SHARD_BYTES, Story, contributed, folded, piece, scheduled
from masking_story import chance

from fedplane.aggregator.rounds import Round
from fedplane.privacy.pairing import About
from fedplane.privacy.participant import SECRETS_BYTES, Participant, Secrets, Sharing, Trustee, randomness_bytes
from fedplane.runtime.ports import Fence
from fedplane.schemas.facts import Contributed, Entrusted, Folded, Keyed, Lapsed, Revealed, RoundFailed, Shared
from fedplane.schemas.layout import cut
from fedplane.schemas.models import Contents
from fedplane.schemas.subjects import update_piece

CONTENTS = tuple(Contents(elements=(end - begin) // 4, largest=0.5) for begin, end in cut(MODEL_BYTES, SHARD_BYTES))
"""Of a model of float32."""

WHOSE: dict[str, Any] = {"run": RUN, "round": 1}
"""The round that is masked."""

STEP = timedelta(seconds=60)
"""How long a step may take if nothing else is said."""

UNLESS_FAILED = Fence(RoundFailed.pattern(run=RUN, round=1))


def lapsed(step: Any) -> Lapsed:
    return Lapsed(**WHOSE, at=NOW, step=step)


def participant(round_: int, cluster: str, question: str | None = None) -> Participant:
    return Participant(About(RUN, round_, question or ""), cluster, Secrets.of(chance(f"{cluster} in {round_}", SECRETS_BYTES)))


def keyed(round_: int, cluster: str, weight: float = 1, **changed: Any) -> Keyed:
    of = participant(round_, cluster)
    told = {"mask_key": of.mask_key, "seal_key": of.seal_key, "weight": weight, "metrics": {"loss": weight}, **changed}
    return Keyed(run=RUN, round=round_, cluster=cluster, at=NOW, **told)


def masked(round_: int, cluster: str, weight: float = 1, *, bits: int = 32, **changed: Any) -> Contributed:
    """An update of masked integers, of which nobody has the bytes."""
    sizes = [contents.elements * bits // 8 for contents in CONTENTS]
    shards = tuple(piece(update_piece(RUN, round_, cluster, "x", shard), size) for shard, size in enumerate(sizes))
    layout = piece(update_piece(RUN, round_, cluster, "x", "layout"), 64, LAYOUT_DIGEST)
    told = {"attempt": "x", "weight": weight, "metrics": {"loss": weight}, "layout": layout, "shards": shards, **changed}
    return Contributed(run=RUN, round=round_, cluster=cluster, at=NOW, **told)


def sum_folded(round_: int, shard: int, *members: str) -> Folded:
    return folded(round_, shard, *members).model_copy(update={"contents": CONTENTS[shard]})


@dataclass
class MaskedStory(Story):
    """`secure` is `spec.privacy.secureAggregation`, `noise` what is beside it. Each cluster has one example unless told otherwise."""

    clusters: tuple[str, ...] = ("a", "b", "c", "d")
    secure: dict[str, Any] = field(default_factory=dict)
    noise: dict[str, Any] | None = None
    sharings: dict[str, Sharing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        privacy = {"secureAggregation": self.secure, "differentialPrivacy": self.noise}
        server = {"rounds": 1, "minAvailableClients": 3}
        self.spec = {"privacy": privacy, "rounds": {"evaluate": False}, "server": server, **self.spec}
        super().__post_init__()

    @property
    def current(self) -> Round:
        assert self.run.round is not None
        return self.run.round

    @property
    def number(self) -> int:
        return self.current.opened.round

    def initialize(self) -> None:
        """Everything until the first training round is opened and its clusters are invited."""
        self.tell(scheduled(*self.clusters))
        self.obey()
        self.tell(contributed(0, self.clusters[0], configuration={"lr": 0.5}))
        self.obey()
        self.tell(*(sum_folded(0, shard, self.clusters[0]) for shard in range(3)))
        self.obey()

    def key(self, clusters: str, weight: float = 1) -> None:
        self.tell(*(keyed(self.number, cluster, weight) for cluster in clusters))

    def share(self, clusters: str) -> None:
        for cluster in clusters:
            self.tell(self.shared(cluster))

    def shared(self, cluster: str) -> Shared:
        paired, terms = self.current.exchange.paired, self.current.opened.masking
        assert paired is not None and terms is not None
        weight = next(member.weight for member in paired.members if member.cluster == cluster)
        member = participant(self.number, cluster, paired.question).pair(paired, terms, weight)
        sharing = member.share(chance(f"shares of {cluster} in {self.number}", randomness_bytes(paired.threshold)))
        self.sharings[cluster] = sharing
        return Shared(run=RUN, round=self.number, cluster=cluster, at=NOW, sealed=sharing.sealed, commitments=sharing.commitments)

    def entrusted(self, cluster: str) -> Trustee:
        """The cluster, once it was handed what the others sealed for it."""
        paired, terms = self.current.exchange.paired, self.current.opened.masking
        assert paired is not None and terms is not None
        weight = next(member.weight for member in paired.members if member.cluster == cluster)
        (fact,) = (fact for fact in self.log if isinstance(fact, Entrusted) and (fact.cluster, fact.round) == (cluster, self.number))
        return participant(self.number, cluster, paired.question).pair(paired, terms, weight).bind(fact, self.sharings[cluster].kept)

    def contribute(self, clusters: str, weight: float = 1, **changed: Any) -> None:
        self.tell(*(masked(self.number, cluster, weight, **changed) for cluster in clusters))

    def reveal(self, clusters: str) -> None:
        self.tell(*(self.revealed(cluster) for cluster in clusters))

    def revealed(self, cluster: str, **changed: Any) -> Revealed:
        closed = self.current.closed
        assert closed is not None and closed.members is not None
        told = self.entrusted(cluster).reveal(closed.members)
        return Revealed(run=RUN, round=self.number, cluster=cluster, at=NOW, **{"seeds": told.seeds, "keys": told.keys, **changed})

    def go_on(self, to: str, *, shared: str = "abcd", contributed: str = "abcd") -> None:
        """Everything up to a phase of round 1, done by those who are named; of the others the time runs out."""
        self.initialize()
        self.key("abcd")
        self.obey()
        for phase, step in (("sharing", lambda: self.share(shared)), ("masking", lambda: self.contribute(contributed))):
            if to == phase:
                return
            step()
            if len(shared if phase == "sharing" else contributed) < len(self.current.exchange.members):
                self.tell(Lapsed(run=RUN, round=self.number, at=NOW, step=phase))
            self.obey()
