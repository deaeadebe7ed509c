"""The facts of a masked round that a plain one has not: keys, shares of secrets, who masks with whom, masks taken off.

A masked training round goes through steps, each of which is told to the log like anything else:
a cluster that has trained says its keys (`keyed`), and the aggregator who the members are (`paired`);
each member hides its secrets with its neighbours (`shared`), and is handed what they hid with it (`bound`, `entrusted`);
masked updates arrive (`contributed`) until the round is `closed`; members give what takes the masks off (`revealed`).
The mathematics, and what it protects from, is in `fedplane.privacy`. A cluster hears what is for it alone, or for all of its run.
What rules facts follow: see `facts`.
"""

from pydantic import Field

from fedplane.schemas.digests import Digest
from fedplane.schemas.models import Instant, Metrics, Weight
from fedplane.schemas.names import Name
from fedplane.schemas.privacy import MASKED_MAX
from fedplane.schemas.privacy_terms import Commitments, Key, Keyholder, Paper, Sealed, Signature, Step
from fedplane.schemas.round_facts import RoundFact

__all__ = ["Bound", "Entrusted", "Keyed", "Lapsed", "Paired", "Revealed", "Shared"]


class Keyed(RoundFact):
    """A cluster has trained and wants to mask: its public keys of this round. Its collaborator says so, in place of `contributed`.

    `signature` is by the key of the cluster's own certificate, so that the others need not take the hub's word for whose keys these are.
    If weights are hidden, `weight` is 1.
    """

    type = "io.fedplane.round.keyed.v1"
    template = "fed.v1.run.{run}.round.{round}.keyed.{cluster}"
    said_by = "collaborator"

    cluster: Name
    weight: Weight
    metrics: Metrics
    mask_key: Key
    seal_key: Key
    certificate: Paper = ""
    signature: Signature = ""


class Paired(RoundFact):
    """No other cluster takes part in this round. The aggregator says who does, with whose keys, and how many have to help to unmask.

    Who is whose neighbour follows from the members and `degree`. A weight divided by `weight_scale` is how much its cluster counts.
    Masks are made for one `question`, so that only what clusters answer to the same one can be added up.
    """

    type = "io.fedplane.round.paired.v1"
    template = "fed.v1.run.{run}.round.{round}.paired"
    said_by = "aggregator"

    members: tuple[Keyholder, ...] = Field(max_length=MASKED_MAX)
    degree: int = Field(ge=1, lt=MASKED_MAX)
    threshold: int = Field(ge=1, le=MASKED_MAX)
    weight_scale: float = Field(gt=0)
    deadline: Instant
    reason: str
    question: Digest | None = None


class Shared(RoundFact):
    """A cluster's secrets of this round are in shares, each sealed for one of its neighbours. Its collaborator says so.

    `commitments` are digests of the shares, by which a false one is known when it is revealed.
    """

    type = "io.fedplane.round.shared.v1"
    template = "fed.v1.run.{run}.round.{round}.shared.{cluster}"
    said_by = "collaborator"

    cluster: Name
    sealed: dict[Name, Sealed] = Field(max_length=MASKED_MAX)
    commitments: dict[Name, Commitments] = Field(max_length=MASKED_MAX)


class Bound(RoundFact):
    """These members' secrets are in safe hands, so they mask with one another. The aggregator says so to its replicas and to everyone."""

    type = "io.fedplane.round.bound.v1"
    template = "fed.v1.run.{run}.round.{round}.bound"
    said_by = "aggregator"

    members: tuple[Name, ...] = Field(max_length=MASKED_MAX)
    deadline: Instant


class Entrusted(RoundFact):
    """A member is handed what its neighbours sealed for it, and told who masks. The aggregator says it to that cluster's collaborator."""

    type = "io.fedplane.round.entrusted.v1"
    template = "fed.v1.run.{run}.round.{round}.entrusted.{cluster}"
    said_by = "aggregator"

    cluster: Name
    members: tuple[Name, ...] = Field(max_length=MASKED_MAX)
    sealed: dict[Name, Sealed] = Field(max_length=MASKED_MAX)
    commitments: dict[Name, Commitments] = Field(max_length=MASKED_MAX)
    deadline: Instant


class Revealed(RoundFact):
    """A member gives its shares of what takes the masks off. Its collaborator says so, once, after the round was closed.

    `seeds` are of clusters whose masked update counts, `keys` of those that dropped out after they were bound; never both of one cluster.
    """

    type = "io.fedplane.round.revealed.v1"
    template = "fed.v1.run.{run}.round.{round}.revealed.{cluster}"
    said_by = "collaborator"

    cluster: Name
    seeds: dict[Name, Sealed] = Field(max_length=MASKED_MAX)
    keys: dict[Name, Sealed] = Field(max_length=MASKED_MAX)


class Lapsed(RoundFact):
    """The time of a step of a masked round is over. Whoever keeps the timers says so, when the bus hands over the one set for it."""

    type = "io.fedplane.round.lapsed.v1"
    template = "fed.v1.run.{run}.round.{round}.lapsed.{step}"
    said_by = "timer"

    step: Step
