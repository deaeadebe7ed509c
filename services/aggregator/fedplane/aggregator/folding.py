"""Folding: the effect that turns a round's updates into one shard of the next model.

Replicas lease shards from a work queue, so they share the work and join and leave as they like. A lease only says who works; what counts
is the
fact `folded`, which the log keeps once. So a replica may be killed, or wake up long after its lease has lapsed: its chunks are under its
own
attempt, and nobody reads them unless its fact was the first.
Memory is that of one shard: the sums (float64) and one member's bytes, whatever the size of the model and the number of members.
"""

import asyncio
import secrets

import structlog

from fedplane.aggregator import strategies
from fedplane.aggregator.rounds import Phase, Round
from fedplane.aggregator.runs import Discard, Run, RunsState
from fedplane.aggregator.shards import NotFinite, ShardFold
from fedplane.aggregator.tracing import emit_ended
from fedplane.runtime.errors import BusError, Corrupt
from fedplane.runtime.ports import Bulk, Bus, Fence, Lease
from fedplane.runtime.replica import Replica
from fedplane.runtime.telemetry import Attributes, round_traceparent, span
from fedplane.schemas.facts import Aggregated, Contributed, Folded, RoundFailed
from fedplane.schemas.layout import BadLayout, Layout, cut, parse_header
from fedplane.schemas.models import Piece
from fedplane.schemas.subjects import model_piece, parse_work_of_fold

__all__ = ["Folding"]

WAIT_SECONDS = 5.0
"""How long one request for work stays open; it costs nothing to ask again."""

KNOWN_SECONDS = 10.0
"""A task may arrive before this replica has read the fact that led to it. After that long it is somebody else's."""

DELIVERIES_MAX = 6
"""A task that was given out so often ends its round: it kills whoever takes it."""

RETRY_SECONDS = 1.0


class _Unusable(Exception):
    """One member's update cannot be folded; `cluster` is whose."""

    def __init__(self, cluster: str, message: str) -> None:
        super().__init__(message)
        self.cluster = cluster


class Folding:
    """One replica's folding. `now` comes from the replica's clock."""

    def __init__(self, bus: Bus, replica: Replica[RunsState]) -> None:
        self._bus = bus
        self._replica = replica
        self._logger = structlog.get_logger()

    async def work(self) -> None:
        """Fold whatever is leased to us, for ever."""
        await self._replica.live.wait()
        while True:
            try:
                async with self._bus.work.lease(WAIT_SECONDS) as lease:
                    if lease is not None:
                        await self._serve(lease)
            except BusError as error:
                self._logger.warning("folding again", why=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def discard(self, effect: object) -> None:
        """Perform `Discard`. What cannot be purged now takes room and nothing else, so a failure is only logged."""
        assert isinstance(effect, Discard), f"the aggregator's core has no effect {effect!r}"
        for pattern in effect.patterns:
            try:
                await self._bus.bulk.purge(pattern)
            except BusError as error:
                self._logger.warning("could not purge bulk data; they take room", pattern=pattern, why=str(error))

    async def _serve(self, lease: Lease) -> None:
        name, number, shard = parse_work_of_fold(lease.subject)
        found = await self._due(name, number, shard)
        if found is None:
            await lease.done()
            return
        run, state = found
        if lease.deliveries > DELIVERIES_MAX:
            message = f"shard {shard} was given out {DELIVERIES_MAX} times and never folded; do aggregators die of it? See their logs"
            await self._fail(state, message, ())
            await lease.done()
            return
        attributes: Attributes = {
            "fedplane.run": name,
            "fedplane.round": number,
            "fedplane.shard": shard,
            "fedplane.members": len(state.members),
        }
        try:
            with span(f"fold shard {shard}", parent=round_traceparent(name, number), attributes=attributes) as spanned:
                fact = await self._fold(run, state, shard)
                await self._bus.log.state(fact, traceparent=spanned.traceparent)
        except BusError as problem:
            if lease.deliveries < DELIVERIES_MAX:
                self._logger.warning("not folded, will be tried again", run=name, round=number, shard=shard, why=str(problem))
                await lease.again(RETRY_SECONDS)
                return
            await self._fail(state, f"shard {shard} cannot be folded: {problem}", ())
        except _Unusable as problem:
            self._logger.warning("an update cannot be used", run=name, round=number, cluster=problem.cluster, why=str(problem))
            await self._fail(state, f"the update of {problem.cluster} cannot be used: {problem}", (problem.cluster,))
        await lease.done()

    async def _due(self, name: str, number: int, shard: int) -> tuple[Run, Round] | None:
        """The round, once this replica knows that it is being folded; None if the shard needs no folding (any more)."""
        try:
            async with asyncio.timeout(KNOWN_SECONDS), self._replica.changed:
                while True:
                    run = self._replica.state.get(name)
                    if run is not None and run.ended:
                        return None
                    if run is not None and run.round is not None and run.round.opened.round >= number:
                        state = run.round
                        if state.opened.round > number or state.ended or shard in state.folded:
                            return None
                        if state.phase is Phase.FOLDING:
                            return run, state
                    await self._replica.changed.wait()
        except TimeoutError:
            self._logger.warning("dropped a task that the log says nothing of", run=name, round=number, shard=shard)
            return None

    async def _fold(self, run: Run, state: Round, shard: int) -> Folded:
        asked, members = state.opened, state.members
        layout_bytes = await self._layout(asked.model.layout if asked.model else members[0].layout, members[0])
        layout = _parsed(layout_bytes, members[0], sum(piece.bytes for piece in members[0].shards))
        begin, end = cut(layout.bytes, asked.shard_bytes)[shard]
        fold = ShardFold(strategies.make(run.submitted.resource.spec.strategy), layout, begin, end)
        buffer = bytearray(end - begin)
        for member in members:
            await self._read(member.shards[shard], member, buffer)
            try:
                await asyncio.to_thread(fold.accumulate, memoryview(buffer), member.weight)
            except NotFinite as error:
                raise _Unusable(member.cluster, str(error)) from error
        result = await asyncio.to_thread(fold.report)
        attempt = secrets.token_hex(8)
        piece = await self._bus.bulk.write(model_piece(asked.run, asked.round, attempt, shard), result, asked.chunk_bytes)
        brought = None
        if shard == 0:  # every model brings its own layout, so that older models can be forgotten whole
            brought = await self._bus.bulk.write(
                model_piece(asked.run, asked.round, attempt, "layout"), memoryview(layout_bytes), asked.chunk_bytes
            )
        return Folded(
            run=asked.run, round=asked.round, shard=shard, at=self._replica.clock(), piece=piece,
            members=tuple(member.cluster for member in members), layout=brought,
        )  # fmt: skip

    async def _layout(self, piece: Piece, member: Contributed) -> bytes:
        header = bytearray(piece.bytes)
        await self._read(piece, member, header)
        return bytes(header)

    async def _read(self, piece: Piece, member: Contributed, into: bytearray) -> None:
        try:
            await _read_into(self._bus.bulk, piece, into)
        except Corrupt as error:
            raise _Unusable(member.cluster, str(error)) from error

    async def _fail(self, state: Round, message: str, faulty: tuple[str, ...]) -> None:
        asked = state.opened
        fact = RoundFailed(run=asked.run, round=asked.round, at=self._replica.clock(), reason="unfoldable", message=message, faulty=faulty)
        fence = Fence(Aggregated.pattern(run=asked.run, round=asked.round))
        outcome = await self._bus.log.state(fact, fence=fence, traceparent=round_traceparent(asked.run, asked.round))
        emit_ended(self._replica, outcome)


async def _read_into(bulk: Bulk, piece: Piece, into: bytearray) -> None:
    async for offset, chunk in bulk.read(piece):
        into[offset : offset + len(chunk)] = chunk


def _parsed(header: bytes, member: Contributed, size: int) -> Layout:
    try:
        layout = parse_header(header)
    except BadLayout as error:
        raise _Unusable(member.cluster, str(error)) from error
    if layout.bytes != size:
        raise _Unusable(member.cluster, f"its layout describes {layout.bytes} bytes and it has {size}")
    return layout
