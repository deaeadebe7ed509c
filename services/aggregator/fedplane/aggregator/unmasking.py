"""Folding a shard of masked updates: added up as they are, the masks that are left taken off, and the mean change made of the sum.

No single update is ever anything but noise here. Members' integers are added modulo the ring, chunk by chunk, side by side as ever;
of a chunk's sum the masks are taken off, which each shard has of its own, so any replica can fold any shard.
What comes out is moved into the next model by the code that moves every other mean into it, the server's optimizer included.

The secrets are joined from the log once a round and replica. They open no update by themselves: see `fedplane.privacy.recovering`.
A sum that members cannot have made by the rules says that some member sent garbage. Nobody can say which, and the sentence says so.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplane.aggregator.exchange import held
from fedplane.aggregator.folding import Unusable, hashing, memory_of, storing, strategy_of
from fedplane.aggregator.histories import Run
from fedplane.aggregator.reading import Damaged, SideBySide, whole
from fedplane.aggregator.rounds import Round
from fedplane.aggregator.shards import PART_ELEMENTS, NotFinite, ShardFold, contents, float_elements, ranges
from fedplane.aggregator.strategies.algebra import Coefficients
from fedplane.aggregator.team import Team
from fedplane.privacy import keystream
from fedplane.privacy.elements import elements_of
from fedplane.privacy.fixed import Fixed
from fedplane.privacy.keystream import Mask
from fedplane.privacy.masking import fixed_of
from fedplane.privacy.recovering import FalseSecret, left_on
from fedplane.runtime.errors import BadInput
from fedplane.runtime.ports import Bulk
from fedplane.schemas.facts import Closed, Folded, Paired
from fedplane.schemas.layout import BadLayout, Layout, parse_header

__all__ = ["Unmasking"]

GARBAGE = (
    "the sum of the members' masked updates is none that they can have made by the rules, so some member sent garbage, or made its shares "
    "of something else; nobody can say which, for nobody sees a single update. Look at the members' versions and logs; "
    "run again without those that you doubt, or without spec.privacy.secureAggregation, among clusters that allow it"
)


class Unmasking:
    """One replica's folds of masked shards. It knows the masks of one round at a time, that of its last fold."""

    def __init__(self, bulk: Bulk, team: Team) -> None:
        self._bulk = bulk
        self._team = team
        self._masks: tuple[tuple[Paired | None, Closed | None], tuple[Mask, ...]] | None = None

    async def fold(self, run: Run, state: Round, shard: int, now: datetime) -> Folded:
        """Fold the members' masked updates in one shard, and store the result."""
        asked, strategy, model = state.opened, strategy_of(run, state), state.opened.model
        assert asked.masking is not None and model is not None and state.exchange.paired is not None, "the round is masked"
        try:
            fixed = fixed_of(asked.masking, state.exchange.paired)
            masks = await self._left_on(state)
            shares = _shares(state, fixed, masks)
            _insist_on_weight(shares, fixed)
            header = bytes(await whole(self._bulk, model.layout))
            layout = parse_header(header)
        except FalseSecret as error:
            raise Unusable(error.cluster, str(error)) from error
        except (BadInput, BadLayout) as error:
            raise Unusable(None, str(error)) from error
        begin = sum(piece.bytes for piece in model.shards[:shard])
        span = (begin, begin + model.shards[shard].bytes)
        _insist_on_contents(state, shard, sum(elements_of(part) for part in layout.runs(*span)) * fixed.dtype.itemsize)
        folding = ShardFold(
            strategy, Coefficients((), 1.0), layout, span, asked.chunk_bytes, training_round=asked.training_round,
            model=memoryview(await whole(self._bulk, model.shards[shard])),
            memory=await memory_of(self._bulk, strategy, model.memory, shard, float_elements(layout, span)),
            chunks=ranges(layout, span, asked.chunk_bytes // fixed.dtype.itemsize),
        )  # fmt: skip
        await self._fold_chunks(state, shard, folding, fixed, masks, shares)
        return await self._folded(state, shard, folding, header, layout, span, now)

    async def _left_on(self, state: Round) -> tuple[Mask, ...]:
        about = (state.exchange.paired, state.closed)  # not its name: a run may be submitted again under its old one
        if self._masks is None or self._masks[0] != about:
            self._masks = (about, await asyncio.to_thread(_left_on, state))
        return self._masks[1]

    async def _fold_chunks(self, state: Round, shard: int, folding: ShardFold, fixed: Fixed, masks: Sequence[Mask], shares: float) -> None:
        side = SideBySide(self._bulk, [member.shards[shard] for member in state.members])
        is_garbage, total, at = False, np.zeros(0, fixed.dtype), 0
        try:
            async for chunk, first, arrived in side.chunks():
                if first == 0:
                    at, total = at + len(total), np.zeros(arrived[0].nbytes // fixed.dtype.itemsize, fixed.dtype)
                adding = [partial(_add, total[part], part, arrived) for part in _parts(len(total))]
                await asyncio.to_thread(self._team.do, [*hashing(side, first, arrived), *adding])
                if first + len(arrived) == len(state.members):
                    removal = _Removal(fixed, masks, shares, shard, at, total)
                    await asyncio.to_thread(self._team.do, [partial(removal.do, part) for part in _parts(len(total))])
                    is_garbage = is_garbage or removal.is_garbage
                    await asyncio.to_thread(self._team.do, folding.move(chunk, removal.changes))
            side.check()  # whoever sent other bytes than it said is known by name
        except Damaged as error:
            raise Unusable(state.members[error.index].cluster, str(error)) from error
        except NotFinite as error:
            raise Unusable(None, str(error)) from error
        if is_garbage:
            raise Unusable(None, GARBAGE)

    async def _folded(
        self, state: Round, shard: int, folding: ShardFold, header: bytes, layout: Layout, span: tuple[int, int], now: datetime
    ) -> Folded:
        store = storing(self._bulk, state)
        return Folded(
            run=state.opened.run, round=state.opened.round, shard=shard, at=now, members=tuple(member.cluster for member in state.members),
            piece=await store(shard, folding.out),
            layout=await store("layout", memoryview(header)) if shard == 0 else None,
            memory=await store(f"{shard}-memory", memoryview(folding.memory_out.tobytes())) if len(folding.memory_out) else None,
            contents=contents(layout, span, folding.out),
        )  # fmt: skip


class _Removal:
    """Taking the masks off a chunk's sum, part by part, and what the mean changes are then."""

    def __init__(self, fixed: Fixed, masks: Sequence[Mask], shares: float, shard: int, first: int, total: NDArray[Any]) -> None:
        self._fixed, self._masks, self._shares = fixed, masks, shares
        self._shard, self._first, self._total = shard, first, total
        self.changes = np.empty(len(total))
        self.is_garbage = False

    def do(self, part: slice) -> None:
        """Any thread may do any part."""
        total = self._total[part]
        keystream.apply_all(total, self._masks, self._shard, self._first + part.start)
        if self._fixed.in_range(total):
            self.changes[part] = self._fixed.mean(total, self._shares)
        else:
            self.changes[part], self.is_garbage = 0.0, True


def _left_on(state: Round) -> tuple[Mask, ...]:
    masks, members = state.exchange, [member.cluster for member in state.members]
    assert masks.paired is not None and masks.pairing is not None and masks.bound is not None, "what is recoverable was bound"
    public = {member.cluster: member.mask_key for member in masks.paired.members}
    return left_on(masks.pairing, public, masks.bound.members, members, *held(masks))


def _shares(state: Round, fixed: Fixed, masks: Sequence[Mask]) -> float:
    """How much all members count together; a cluster with the largest weight counts as one, and with noise each does."""
    terms, paired = state.opened.masking, state.exchange.paired
    assert terms is not None and paired is not None, "the round is masked"
    if terms.norm_max is not None:
        return float(len(state.members))
    if terms.weights == "public":
        return sum(member.weight / paired.weight_scale for member in state.members)
    total = np.array([sum(member.tally[0] for member in state.members) % 2**fixed.bits], fixed.dtype)
    keystream.apply_all(total, masks, keystream.TALLY_SHARD)
    return fixed.shares(int(total[0]))


def _insist_on_weight(shares: float, fixed: Fixed) -> None:
    """Members that count for next to nothing make integers that are all zero, whatever they have trained."""
    if 2 * shares * fixed.levels < fixed.members:
        said = f"the members count for {shares:.2g} of the largest weight together: less than {fixed.bits} bits can tell from nothing"
        raise BadInput(f"{said}; set spec.rounds.weightMax to what the largest cluster has, or spec.privacy.secureAggregation.bits to 64")


def _insist_on_contents(state: Round, shard: int, size: int) -> None:
    """Whoever stated what the model's numbers are was believed so far."""
    told = state.members[0].shards[shard].bytes
    if told != size:
        raise Unusable(None, f"shard {shard} of the model has {size} bytes of masked integers, and by its own word {told}")


def _add(total: NDArray[Any], part: slice, arrived: Sequence[memoryview]) -> None:
    for update in arrived:
        total += np.frombuffer(update, total.dtype)[part]


def _parts(elements: int) -> list[slice]:
    return [slice(begin, min(begin + PART_ELEMENTS, elements)) for begin in range(0, elements, PART_ELEMENTS)]
