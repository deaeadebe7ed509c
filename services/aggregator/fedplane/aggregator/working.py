"""Leased work: replicas take shards from a queue, do what is due with them, and say so.

Replicas share the work by leasing, and join and leave as they like.
A lease only says who works; what counts is the fact, which the log keeps once.
So a replica may be killed, or wake up long after its lease has lapsed.
Its chunks are under its own attempt, and nobody reads them unless its fact was the first. If it was not, it removes them.
What fails because of the bus is tried again, by whoever is free.
What fails because of an update, or too often, ends the round with the reason.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime

import structlog

from fedplane.aggregator.deciding import shard_work
from fedplane.aggregator.folding import Unusable, fold, measure
from fedplane.aggregator.histories import Run
from fedplane.aggregator.rounds import Round
from fedplane.aggregator.runs import Discard, RunsState
from fedplane.aggregator.team import Team
from fedplane.aggregator.telling import tell_ended
from fedplane.aggregator.unmasking import Unmasking
from fedplane.runtime.errors import BusError
from fedplane.runtime.metrics import FOLD_DURATION
from fedplane.runtime.ports import Bus, Fence, Lease
from fedplane.runtime.replica import Offer, Replica
from fedplane.runtime.spans import Attributes, SpanKind, messaging, round_traceparent
from fedplane.runtime.telemetry import span, tell
from fedplane.schemas.facts import Aggregated, Folded, RoundFailed
from fedplane.schemas.models import Piece
from fedplane.schemas.subjects import WORK_TEMPLATE, chunks_of, parse_work_on, work_on

__all__ = ["Working"]

WAIT_SECONDS = 5.0
"""How long one request for work stays open; it costs nothing to ask again."""

KNOWN_SECONDS = 10.0
"""A task may arrive before this replica has read the fact that led to it. After that long, somebody else should try."""

DELIVERIES_MAX = 6
"""A task that was given out so often ends its round: the bus fails it each time, or it kills whoever takes it."""

RETRY_SECONDS = 1.0
"""How long to wait when the bus failed, or with a task that the log says nothing of yet: a server needs about that to restart."""

ASIDE_SECONDS = 10.0
"""How long a replica leaves all work to others when a task needs a secret that it has not.

It is idle where they are busy, so without a pause it would take the same task again and again, and end the round by `DELIVERIES_MAX`.
With one, those who can have a minute; if nobody can, the round then fails and says why.
"""


class _NeedsSecret(Exception):
    """Noise is to be drawn for this task, and this replica has no secret."""


class Working:
    """One replica's work. Noise is drawn from the secret, if there is one."""

    def __init__(self, bus: Bus, replica: Replica[RunsState], team: Team, secret: bytes = b"") -> None:
        self._bus = bus
        self._secret = secret
        self._team = team
        self._unmasking = Unmasking(bus.bulk, team)
        self._replica = replica
        self._logger = structlog.get_logger()

    async def work(self) -> None:
        """Do whatever is leased to us, for ever."""
        await self._replica.live.wait()
        while True:
            try:
                async with self._bus.work.lease(WAIT_SECONDS) as lease:
                    if lease is not None:
                        await self._serve(lease)
            except BusError as error:
                self._logger.warning("working again", why=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            except _NeedsSecret as needs:
                self._logger.warning("stood aside for one that has a secret: set FEDPLANE_NOISE_SECRET here as well", task=str(needs))
                await asyncio.sleep(ASIDE_SECONDS)

    async def discard(self, effect: object) -> None:
        """Perform `Discard`. What cannot be purged now takes room and nothing else, so a failure is only logged."""
        assert isinstance(effect, Discard), f"the aggregator's core has no effect {effect!r}"
        for pattern in effect.patterns:
            try:
                await self._bus.bulk.purge(pattern)
            except BusError as error:
                self._logger.warning("could not purge bulk data; they take room", pattern=pattern, why=str(error))

    async def _serve(self, lease: Lease) -> None:
        try:
            what, name, number, shard = parse_work_on(lease.subject)
            found = await self._due(what, name, number, shard)
        except ValueError as error:
            self._logger.warning("dropped what is no task of ours", task=lease.subject, why=str(error))
            found = None
        except TimeoutError:
            if lease.deliveries <= DELIVERIES_MAX:
                await lease.again(RETRY_SECONDS)
                return
            self._logger.warning("dropped a task that the log says nothing of", task=lease.subject)
            found = None
        if found is None:
            await lease.done()
            return
        run, state = found
        if lease.deliveries > DELIVERIES_MAX:
            message = (
                f"shard {shard} was given out {DELIVERIES_MAX} times to {what} and never was; do aggregators die of it? See their logs"
            )
            await self._fail(state, message, ())
            await lease.done()
            return
        if state.opened.noise is not None and not self._secret and lease.deliveries < DELIVERIES_MAX:
            raise _NeedsSecret(lease.subject)
        try:
            await self._do(what, run, state, shard)
        except BusError as problem:
            if lease.deliveries < DELIVERIES_MAX:
                self._logger.warning("not done, will be tried again", task=lease.subject, why=str(problem))
                await lease.again(RETRY_SECONDS)
                return
            await self._fail(state, f"shard {shard} cannot be used to {what}: {problem}", ())
        except Unusable as problem:
            faulty = (problem.cluster,) if problem.cluster else ()
            whose = f"the update of {problem.cluster} cannot be used: " if faulty else ""
            await self._fail(state, f"{whose}{problem}", faulty)
        await lease.done()

    async def _do(self, what: str, run: Run, state: Round, shard: int) -> None:
        name, number = state.opened.run, state.opened.round
        attributes: Attributes = {
            "fedplane.run": name,
            "fedplane.round": number,
            "fedplane.shard": shard,
            "fedplane.members": len(state.members),
            **messaging("process", "process", work_on(what, name, number, shard), WORK_TEMPLATE),
        }
        root = round_traceparent(name, number)
        with span(f"{what} shard", parent=root, attributes=attributes, kind=SpanKind.CONSUMER) as spanned:
            now = self._replica.clock()
            if what == "measure":
                measured = await measure(self._bus.bulk, self._team, run, state, shard, now)
                seconds = spanned.seconds
                stated = await self._bus.log.state(measured, traceparent=spanned.traceparent)
            else:
                folded = await self._fold(run, state, shard, now)
                seconds = spanned.seconds
                fence = Fence(RoundFailed.pattern(run=name, round=number))
                stated = await self._bus.log.state(folded, fence=fence, traceparent=spanned.traceparent)
                if not stated.mine or self._was_ended_in(name, number):
                    await self.discard(Discard(tuple(chunks_of(piece.subject) for piece in _pieces(folded))))
            if stated.mine:
                tell(FOLD_DURATION, seconds, {"fedplane.work": what}, spanned.traceparent)

    async def _fold(self, run: Run, state: Round, shard: int, now: datetime) -> Folded:
        if state.opened.masking is not None:
            return await self._unmasking.fold(run, state, shard, now)
        return await fold(self._bus.bulk, self._team, run, state, shard, now, self._secret)

    def _was_ended_in(self, name: str, number: int) -> bool:
        """Whether the run was ended in that round: then whatever was stored since is in nobody's model, and was not yet discarded."""
        run = self._replica.state.get(name)
        return run is None or (run.ended and run.round is not None and run.round.opened.round == number)

    async def _due(self, what: str, name: str, number: int, shard: int) -> tuple[Run, Round] | None:
        """The round, once this replica knows that the task is due in it; None if it need not be done any more.

        Raises TimeoutError if this replica does not learn of it.
        """
        task = Offer(work_on(what, name, number, shard))
        async with asyncio.timeout(KNOWN_SECONDS), self._replica.changed:
            while True:
                run = self._replica.state.get(name)
                if run is not None and run.ended:
                    return None
                if run is not None and run.round is not None and run.round.opened.round >= number:
                    state = run.round
                    done = shard in (state.measured if what == "measure" else state.folded)
                    if state.opened.round > number or state.ended or done:
                        return None
                    if state.is_foldable and task in shard_work(state, run.submitted.resource.spec.strategy):
                        return run, state
                await self._replica.changed.wait()

    async def _fail(self, state: Round, message: str, faulty: tuple[str, ...]) -> None:
        asked = state.opened
        self._logger.warning("the round fails", run=asked.run, round=asked.round, why=message)
        fact = RoundFailed(run=asked.run, round=asked.round, at=self._replica.clock(), reason="unfoldable", message=message, faulty=faulty)
        fence = Fence(Aggregated.pattern(run=asked.run, round=asked.round))
        outcome = await self._bus.log.state(fact, fence=fence, traceparent=round_traceparent(asked.run, asked.round))
        tell_ended(self._replica, outcome)


def _pieces(folded: Folded) -> Iterator[Piece]:
    return (piece for piece in (folded.piece, folded.layout, folded.memory) if piece is not None)
