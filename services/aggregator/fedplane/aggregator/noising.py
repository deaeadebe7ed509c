"""The noise that aggregators add to the sum of a round's updates: once, in the fold, and the same whichever of them folds.

All aggregators have one secret, which is on no bus. The key of a shard's noise is derived from it and from everything that the shard's
result is made of: the run, the round, the shard, the terms, the model, each member's update and how long it is.
So a shard that is folded twice has the same bytes, and nobody who sees both learns more than from one.
And noise is never used for two sums, not even if somebody submits a run again under its old name with other data:
whoever subtracted them would have their difference without any noise.

To those who do not have the secret, HKDF's keys and the stream of AES are chance. Whoever has it can take the noise off:
it is as precious as the updates themselves. What a normal number is, is the business of `fedplane.privacy.gaussian`.
"""

from dataclasses import dataclass

from fedplane.aggregator.rounds import Round
from fedplane.aggregator.strategies.algebra import Vector
from fedplane.privacy.agreement import derived, purpose
from fedplane.privacy.gaussian import standard_normals
from fedplane.schemas.models import model_digest

__all__ = ["Noise", "below", "noise"]

ITS_COUNT = "count"
"""What is noised besides shards: of how many members the update was not shortened."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a shard's mean: its key, and the standard deviation in each float."""

    key: bytes
    deviation: float

    def add(self, proposal: Vector, first: int) -> None:
        """Add its part of the noise to the proposal, in place. The first element is that float of the shard, counted from 0."""
        proposal += self.deviation * standard_normals(self.key, first, len(proposal))


def noise(secret: bytes, state: Round, shard: int, squares: Vector) -> Noise | None:
    """The noise of that shard's mean; None if the round has none. `squares` are those of the members' lengths."""
    wanted = state.opened.noise
    if wanted is None:
        return None
    return Noise(_key(secret, state, str(shard), squares), wanted.multiplier * wanted.clip / len(state.members))


def below(secret: bytes, state: Round, squares: Vector) -> float | None:
    """The share of members whose update was not shortened, with noise in it; None if the round's clip does not follow it."""
    wanted = state.opened.noise
    if wanted is None or wanted.count_deviation is None:
        return None
    within = float((squares <= wanted.clip**2).sum())
    drawn = float(standard_normals(_key(secret, state, ITS_COUNT, squares), 0, 1)[0])
    return (within + wanted.count_deviation * drawn) / len(state.members)


def _key(secret: bytes, state: Round, what: str, squares: Vector) -> bytes:
    """A key for that part of the round's result and nothing else."""
    asked = state.opened
    assert asked.noise is not None and asked.model is not None, "only a round that trains a model has noise"
    said = [asked.run, str(asked.round), what, asked.noise.model_dump_json(), asked.model.digest]
    said += [part for member in state.members for part in (member.cluster, model_digest(member.layout, member.shards))]
    return derived(secret, purpose(b"fedplane noise", *(part.encode() for part in said), squares.tobytes()))
