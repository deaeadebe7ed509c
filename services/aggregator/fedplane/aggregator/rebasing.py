"""Updates that were trained from an earlier model, moved to the present one while they are read.

A straggler's update is a whole model, most of which is as old as what it was trained from.
To average it with the others would pull the next model back to that, so of such an update only the change counts.
What is folded, or compared, is the present model plus the change: what the cluster would have sent had it begun there.
So everything after this module, strategies included, sees updates of one model, and knows of no other.

A base is read chunk by chunk beside the update that needs it, and checked like an update.
Memory therefore grows by a few chunks and the present model's shard, however many members are late and however many models they began with.
Whom a round carries is the business of `carrying`, and the arithmetic that of `shards`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from fedplane.aggregator.carrying import Outstanding, base_of
from fedplane.aggregator.reading import Damaged
from fedplane.aggregator.shards import rebased
from fedplane.aggregator.team import Team
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import Hashing
from fedplane.schemas.facts import Contributed, Opened
from fedplane.schemas.layout import Layout
from fedplane.schemas.models import Piece

__all__ = ["Rebasing", "bases_of"]


def bases_of(members: Sequence[Contributed], question: Opened, known: Mapping[str, Outstanding], shard: int) -> dict[int, Piece]:
    """Where that shard is of the models that some members, by their index, were trained from instead of the round's.

    Raises Damaged that names the member if its base is cut otherwise: a run's settings are not to be changed while it goes on.
    """
    bases = {}
    for index, member in enumerate(members):
        base, update = base_of(member, question, known), member.shards[shard]
        if base is None:
            continue
        piece = base.shards[shard] if shard < len(base.shards) else None
        if piece is None or (piece.bytes, piece.chunk_bytes) != (update.bytes, update.chunk_bytes):
            cause = "was FEDPLANE_SHARD_BYTES or FEDPLANE_CHUNK_BYTES changed during the run?"
            raise Damaged(index, f"the model of round {member.origin}, from which it was trained, is cut otherwise; {cause}")
        bases[index] = piece
    return bases


class Rebasing:
    """Moves the members' chunks of one shard. `bases` are by the members' index, and `model` has the present model's bytes of the shard."""

    def __init__(
        self, bulk: Bulk, team: Team, bases: Mapping[int, Piece], layout: Layout, span: tuple[int, int], model: memoryview | None
    ) -> None:
        assert model is not None or not bases, "whoever moves updates brings the model that they are moved to"
        self._bulk = bulk
        self._team = team
        self._bases = bases
        self._layout = layout
        self._span = span
        self._model = model
        self._hashings = {index: Hashing() for index in bases}

    async def moved(self, chunk: int, first: int, updates: Sequence[memoryview]) -> Sequence[memoryview]:
        """That chunk of neighbouring members, from the first one on, each as if it was trained from the present model.

        Each chunk of a member comes once, in order. Raises Damaged that names the member whose base cannot be read.
        """
        late = [index for index in range(first, first + len(updates)) if index in self._bases]
        if not late:
            return updates
        moved = list(updates)

        def move(index: int, base: memoryview) -> None:
            self._hashings[index].update(base)
            moved[index - first] = self._moved(chunk, index, updates[index - first], base)

        begun = await asyncio.gather(*(self._base(index, chunk) for index in late))
        jobs = [partial(move, index, base) for index, base in zip(late, begun, strict=True)]
        await asyncio.to_thread(self._team.do, jobs)
        return moved

    def _moved(self, chunk: int, index: int, update: memoryview, base: memoryview) -> memoryview:
        assert self._model is not None, "there are bases, so there is the model"
        low, high = self._bases[index].extent(chunk)
        return rebased(self._layout, (self._span[0] + low, self._span[0] + high), update, base, self._model[low:high])

    def check(self) -> None:
        """Raise Damaged if a base's bytes, all of which were read, are not those that were stored."""
        for index, hashing in self._hashings.items():
            if hashing.digest != self._bases[index].digest:
                raise Damaged(
                    index, f"the bytes of the model from which it was trained, {self._bases[index].subject}, are not those stored"
                )

    async def _base(self, index: int, chunk: int) -> memoryview:
        try:
            return await self._bulk.chunk(self._bases[index], chunk)
        except Corrupt as error:
            raise Damaged(index, f"the model from which it was trained cannot be read any more: {error}") from error
