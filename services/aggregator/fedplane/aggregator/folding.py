"""What is done with a shard of a round: measuring how the members' updates compare, and folding them into the next model.

Both read the members side by side, in the order of their names, and return the fact that says what came of it.
They raise `Unusable` when a member's bytes cannot be used, and let the bus's errors through as they are.
Leases, tries and failures are the business of `working`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np

from fedplane.aggregator import carrying, noising, starting, strategies
from fedplane.aggregator.appending import CannotAppend, unappendable
from fedplane.aggregator.clipping import clipped
from fedplane.aggregator.histories import Run
from fedplane.aggregator.joining import joined_header, joined_part
from fedplane.aggregator.reading import Damaged, SideBySide, whole
from fedplane.aggregator.rebasing import Rebasing, bases_of
from fedplane.aggregator.rounds import Round
from fedplane.aggregator.shards import NotFinite, ShardFold, contents, float_elements, is_finite, products, squares
from fedplane.aggregator.strategies.algebra import CannotFold, Coefficients, Cohort, Member, Strategy, Vector, insist_on_few
from fedplane.aggregator.team import Job, Team
from fedplane.runtime.errors import BusFull, Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.facts import Contributed, Folded, Measured
from fedplane.schemas.layout import BadLayout, Layout, cut, parse_header
from fedplane.schemas.models import Contents, Model, Piece, Task
from fedplane.schemas.resources import StrategySpec
from fedplane.schemas.subjects import model_piece, reply_piece

__all__ = ["Unusable", "fold", "hashing", "measure", "memory_of", "storing", "strategy_of"]

INITIALIZATION = StrategySpec()
"""One cluster's initial model is the model, whatever the run's strategy: the mean of one."""


class Unusable(Exception):
    """One member's update cannot be used; `cluster` is whose, None if the members cannot be folded together."""

    def __init__(self, cluster: str | None, message: str) -> None:
        super().__init__(message)
        self.cluster = cluster


def strategy_of(run: Run, state: Round) -> Strategy:
    """The strategy by which a round is folded."""
    strategy = strategies.make(INITIALIZATION if state.opened.task is Task.INITIALIZE else run.submitted.resource.spec.strategy)
    return strategy if state.opened.noise is None else clipped(strategy, state.opened.noise.clip)


async def measure(bulk: Bulk, team: Team, run: Run, state: Round, shard: int, now: datetime) -> Measured:
    """Compare the members' updates in one shard, or take only their lengths if that is all that is to be known of them."""
    asked, members = state.opened, state.members
    assert asked.model is not None, "only what clusters trained is compared, and they trained a model"
    alone, compare = asked.noise is not None, products if asked.noise is None else squares
    try:
        if not alone:
            insist_on_few(len(members))
    except CannotFold as error:
        raise Unusable(None, str(error)) from error
    _, layout = await _layout(bulk, state)
    begin, end = cut(layout.bytes, asked.shard_bytes)[shard]
    model = memoryview(await whole(bulk, asked.model.shards[shard]))
    side = SideBySide(bulk, [member.shards[shard] for member in members])
    parts = cut(end - begin, members[0].shards[shard].chunk_bytes)
    result, row = np.zeros(len(members) if alone else (len(members), len(members))), list[memoryview]()
    try:
        rebasing = Rebasing(bulk, team, bases_of(members, asked, run.outstanding, shard), layout, (begin, end), model)
        async for chunk, first, arrived in side.chunks():
            await asyncio.to_thread(team.do, hashing(side, first, arrived))
            row += await rebasing.moved(chunk, first, arrived)
            if len(row) == len(members):
                low, high = parts[chunk]
                part = (begin + low, begin + high)
                result += await asyncio.to_thread(compare, layout, part, tuple(row), model[low:high])
                _insist_on_finite(result if alone else np.diag(result), members)
                row = []
        side.check()
        rebasing.check()
    except Damaged as error:
        raise Unusable(members[error.index].cluster, str(error)) from error
    upper = result if alone else result[np.triu_indices(len(members))]
    return Measured(
        run=asked.run, round=asked.round, shard=shard, at=now, members=tuple(member.cluster for member in members),
        products=tuple(float(value) for value in upper),
    )  # fmt: skip


async def fold(bulk: Bulk, team: Team, run: Run, state: Round, shard: int, now: datetime, secret: bytes = b"") -> Folded:
    """Fold the members' updates in one shard, and store the result. Its noise, if the round has any, is drawn from the secret."""
    asked, strategy = state.opened, strategy_of(run, state)
    if asked.task is Task.INITIALIZE and run.given is not None:
        return await _start(bulk, run, state, run.given, shard, now)
    if state.appends and asked.model is not None:
        return await _append(bulk, state, asked.model, shard, now)
    coefficients = _coefficients(strategy, run, state)
    counting = [index for index in range(len(state.members)) if any(group.values[index] for group in coefficients.values())]
    members = [state.members[index] for index in counting]
    header, layout = await _layout(bulk, state)
    _insist_on_kind(run.submitted.resource.spec.strategy, layout)
    span = cut(layout.bytes, asked.shard_bytes)[shard]
    bases, noise = _bases(members, run, state, shard), _noise(secret, state, shard)
    model = memory = None
    if asked.model is not None and (strategy.advance or bases or noise or any(group.rest for group in coefficients.values())):
        model = memoryview(await whole(bulk, asked.model.shards[shard]))
        memory = await memory_of(bulk, strategy, asked.model.memory, shard, float_elements(layout, span))
    of = {prefix: replace(group, values=tuple(group.values[index] for index in counting)) for prefix, group in coefficients.items()}
    try:
        folding = ShardFold(
            strategy, of.pop(""), layout, span, members[0].shards[shard].chunk_bytes,
            apart=of, training_round=asked.training_round, model=model, memory=memory, noise=noise,
        )  # fmt: skip
    except CannotFold as error:
        raise Unusable(None, str(error)) from error
    rebasing = partial(Rebasing, bulk, team, bases, layout, span, model)
    await _fold_chunks(bulk, team, folding, members, rebasing, shard, layout, span)
    store = storing(bulk, state)
    return Folded(
        run=asked.run, round=asked.round, shard=shard, at=now, members=tuple(member.cluster for member in members),
        piece=await store(shard, folding.out),
        layout=await store("layout", memoryview(header)) if shard == 0 else None,  # every model brings its own: older ones can be forgotten
        memory=await store(f"{shard}-memory", memoryview(folding.memory_out.tobytes())) if strategy.memories else None,
        contents=_contents(run, layout, span, folding.out),
        below=noising.below(secret, state, _squares(state)) if shard == 0 else None,
    )  # fmt: skip


def _noise(secret: bytes, state: Round, shard: int) -> noising.Noise | None:
    if state.opened.noise is not None and not secret:
        raise Unusable(None, "an aggregator has no secret to draw noise from: set FEDPLANE_NOISE_SECRET for all of them")
    return noising.noise(secret, state, shard, _squares(state))


async def _start(bulk: Bulk, run: Run, state: Round, given: Model, shard: int, now: datetime) -> Folded:
    """One shard of the model that the run starts from, as a part of the run's own first model. The cluster's header says how it is cut."""
    header, layout = await _layout(bulk, state)
    try:
        differs = starting.difference(layout, parse_header(bytes(await whole(bulk, given.layout))))
    except BadLayout as error:
        raise Unusable(None, f"the model of {given.run} that the run starts from has no valid layout: {error}") from error
    if differs:
        raise Unusable(None, f"the model of {given.run} that the run starts from is not one that the app can train: {differs}")
    _insist_on_kind(run.submitted.resource.spec.strategy, layout)
    begin, end = cut(layout.bytes, state.opened.shard_bytes)[shard]
    out = bytearray()
    for piece, low, high in starting.parts(given.shards, begin, end):
        out += memoryview(await whole(bulk, piece))[low:high]
    if len(out) != end - begin:
        raise Unusable(None, f"the model of {given.run} that the run starts from has {given.bytes} bytes, and its layout {layout.bytes}")
    store = storing(bulk, state)
    return Folded(
        run=state.opened.run, round=state.opened.round, shard=shard, at=now, members=tuple(member.cluster for member in state.members),
        piece=await store(shard, memoryview(out)), layout=await store("layout", memoryview(header)) if shard == 0 else None,
        contents=_contents(run, layout, (begin, end), memoryview(out)),
    )  # fmt: skip


async def _append(bulk: Bulk, state: Round, model: Model, shard: int, now: datetime) -> Folded:
    """One shard of the model with the members' updates appended to it."""
    asked, members = state.opened, state.members
    try:
        out = await joined_part(bulk, model, members, asked.shard_bytes, shard)
        header = await joined_header(bulk, model, members, asked.training_round) if shard == 0 else b""
    except CannotAppend as error:
        raise Unusable(error.cluster, str(error)) from error
    store = storing(bulk, state)
    return Folded(
        run=asked.run, round=asked.round, shard=shard, at=now, members=tuple(member.cluster for member in members),
        piece=await store(shard, memoryview(out)), layout=await store("layout", memoryview(header)) if header else None,
    )  # fmt: skip


def _contents(run: Run, layout: Layout, span: tuple[int, int], out: memoryview) -> Contents | None:
    """What the next masked round has to know of a shard."""
    return contents(layout, span, out) if run.submitted.resource.spec.privacy.secure_aggregation is not None else None


def storing(bulk: Bulk, state: Round) -> Callable[[int | str, memoryview], Awaitable[Piece]]:
    """Stores parts of the round's result under an attempt of their own."""
    asked, attempt = state.opened, secrets.token_hex(8)
    place = reply_piece if asked.task is Task.REPLY else model_piece

    async def store(what: int | str, data: memoryview) -> Piece:
        try:
            return await bulk.write(place(asked.run, asked.round, attempt, what), data, asked.chunk_bytes)
        except BusFull:
            await bulk.purge(model_piece(asked.run, asked.round, attempt, ">"))  # the next attempt is another one
            raise

    return store


async def _fold_chunks(
    bulk: Bulk, team: Team, folding: ShardFold, members: list[Contributed], rebase: Callable[[], Rebasing],
    shard: int, layout: Layout, span: tuple[int, int],
) -> None:  # fmt: skip
    side, rebasing = SideBySide(bulk, [member.shards[shard] for member in members]), rebase()
    try:
        async for chunk, first, arrived in side.chunks():
            moved = await rebasing.moved(chunk, first, arrived)
            await asyncio.to_thread(team.do, hashing(side, first, arrived) + folding.add(chunk, first, moved))
        side.check()
        rebasing.check()
    except Damaged as error:
        raise Unusable(members[error.index].cluster, str(error)) from error
    except NotFinite as error:
        raise Unusable(await _culprit(bulk, members, rebase(), shard, layout, span), str(error)) from error


def _bases(members: list[Contributed], run: Run, state: Round, shard: int) -> dict[int, Piece]:
    try:
        return bases_of(members, state.opened, run.outstanding, shard)
    except Damaged as error:
        raise Unusable(members[error.index].cluster, str(error)) from error


def hashing(side: SideBySide, first: int, arrived: list[memoryview]) -> list[Job]:
    """Jobs that take what arrived into the members' digests. They come first: what is hashed is then near when it is added."""
    return [partial(side.hash, index, data) for index, data in enumerate(arrived, first)]


async def _culprit(
    bulk: Bulk, members: list[Contributed], rebasing: Rebasing, shard: int, layout: Layout, span: tuple[int, int]
) -> str | None:
    """Whose update is not finite; None if all are, and only their fold is not."""
    side = SideBySide(bulk, [member.shards[shard] for member in members])
    parts = cut(span[1] - span[0], members[0].shards[shard].chunk_bytes)
    async for chunk, first, arrived in side.chunks():
        part = (span[0] + parts[chunk][0], span[0] + parts[chunk][1])
        for index, data in enumerate(await rebasing.moved(chunk, first, arrived), first):
            if not await asyncio.to_thread(is_finite, layout, part, data):
                return members[index].cluster
    return None


def _coefficients(strategy: Strategy, run: Run, state: Round) -> dict[str, Coefficients]:
    """How much the members count, for the tensors apart by the prefix of their names, and for all others by the empty one."""
    assert run.scheduled is not None, "a run whose round is folded has its clusters"
    late = [carrying.staleness(member, state.opened, run.outstanding) for member in state.members]
    members = tuple(
        Member(member.cluster, member.weight * carrying.discount(rounds), member.metrics, rounds)
        for member, rounds in zip(state.members, late, strict=True)
    )
    compared = _products(state) if strategy.compares else None
    cohort = Cohort(members, len(run.scheduled.participants), compared, tuple(_squares(state).tolist()))
    try:
        coefficients = {prefix: weigh(cohort) for prefix, weigh in {**strategy.apart, "": strategy.weigh}.items()}
    except CannotFold as error:
        raise Unusable(None, str(error)) from error
    if any(not any(group.values) or not group.divisor > 0 for group in coefficients.values()):
        raise Unusable(None, "the strategy leaves every member out")
    return coefficients


def _insist_on_kind(spec: StrategySpec, layout: Layout) -> None:
    """A model that the run's strategy cannot do anything with is refused as soon as it is the initial one, before anybody trains."""
    strategy = strategies.make(spec)
    if strategy.appends and (why := unappendable(layout)):
        raise Unusable(None, f"{spec.name} cannot append to the app's initial model: {why}; choose another strategy")
    for prefix in strategy.apart:
        if not any(tensor.name.startswith(prefix) for tensor in layout.tensors):
            raise Unusable(
                None,
                f"{spec.name} needs tensors whose names begin with {prefix!r}, and the model has none: "
                "let the app's initial model have them, or choose another strategy",
            )


def _products(state: Round) -> Vector:
    """The members' inner products over all shards, added in the order of the shards."""
    size = len(state.members)
    total = np.zeros((size, size))
    for shard in range(state.shards):
        total[np.triu_indices(size)] += np.array(state.measured[shard].products)
    return total + np.triu(total, 1).T


def _squares(state: Round) -> Vector:
    """The squares of the members' lengths over all shards; of nobody if the round has no noise, for then nothing is shortened."""
    measured = [] if state.opened.noise is None else [state.measured[shard].products for shard in range(state.shards)]
    return np.array(measured).reshape(-1, len(state.members)).sum(axis=0) if measured else np.zeros(0)


async def memory_of(bulk: Bulk, strategy: Strategy, pieces: tuple[Piece, ...], shard: int, elements: int) -> Vector | None:
    if not pieces or not strategy.memories:
        return None
    return np.frombuffer(await whole(bulk, pieces[shard]), np.float64).reshape(strategy.memories, elements)


async def _layout(bulk: Bulk, state: Round) -> tuple[bytes, Layout]:
    """The layout that all members have: its bytes, and what they say."""
    first = state.members[0]
    try:
        header = bytes(await whole(bulk, state.opened.model.layout if state.opened.model else first.layout))
        layout = parse_header(header)
    except (BadLayout, Corrupt) as error:
        raise Unusable(None if state.opened.model else first.cluster, str(error)) from error
    size = sum(piece.bytes for piece in first.shards)
    if layout.bytes != size:
        raise Unusable(first.cluster, f"its layout describes {layout.bytes} bytes and it has {size}")
    return header, layout


def _insist_on_finite(norms: Vector, members: tuple[Contributed, ...]) -> None:
    for member, norm in zip(members, norms, strict=True):
        if not np.isfinite(norm):
            raise Unusable(member.cluster, "its update has a value that is not finite")
