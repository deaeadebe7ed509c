"""Doing what `retention` says is due: making a file of a run's facts, purging them, and removing everything in the end.

Every step may be repeated, by this replica or another one, and a process may die between any two.
That the file has every fact is up to the log: `archived` is stated behind a fence on all facts of the run.
If one came after those that are in the file, the log refuses `archived`, and the file is made anew.
Before that the run's last view is shown once more, since no replica could make it of a purged log.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from fedplane.runtime.archive import Packer
from fedplane.runtime.errors import BusError, BusFull, Corrupt, Unreachable
from fedplane.runtime.ports import Bus, Fence, Viewed
from fedplane.runtime.spans import run_traceparent
from fedplane.schemas.facts import Archived, all_facts_of
from fedplane.schemas.models import Piece
from fedplane.schemas.subjects import archive_piece, bulk_of_round, bulk_of_run, chunks_of
from fedplane.status.phases import Phases, Runs
from fedplane.status.retention import Archive, Forget, Purge
from fedplane.status.showing import body

__all__ = ["Archiving"]

AT_ONCE_MAX = 2
"""How many runs are worked on at a time: nobody waits for it, and after a long rest there may be thousands."""

READ_SECONDS = 300.0
"""How long it may take to read a run's facts; the whole of a full log takes about a minute."""

CHUNK_BYTES = 1_000_000
"""One message of a default server, as for models."""

RETRY_SECONDS = 10.0
"""How long to wait when the bus failed. Nothing is lost by being late."""


@dataclass
class _Read:
    """The facts of one run, as far as they are read."""

    packer: Packer = field(default_factory=Packer)
    phases: Phases = field(default_factory=lambda: Phases(runs_kept_max=1))
    views: Runs = field(default_factory=dict)
    sequence: int = 0
    skipped: int = 0
    archived: bool = False


class Archiving:
    """Performs `Archive`, `Purge` and `Forget`."""

    def __init__(self, bus: Bus, retry_seconds: float = RETRY_SECONDS, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._bus = bus
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._logger = structlog.get_logger()

    async def __call__(self, effect: object) -> None:
        """Do it, and try again until the bus has taken it."""
        while True:
            try:
                async with self._slots:
                    await self._do(effect)
            except Corrupt as error:
                self._logger.error("can never be done", effect=str(effect), error=str(error))
            except BusError as error:
                self._logger.warning("not done, will try again", effect=str(effect), error=str(error))
                await asyncio.sleep(self._retry_seconds)
                continue
            return

    async def _do(self, effect: object) -> None:
        match effect:
            case Archive(run):
                await self._archive(run)
            case Purge(run, before):
                await self._bus.timers.purge(all_facts_of(run))  # or one that comes due later would state what nobody removes
                await self._bus.log.purge(all_facts_of(run), before)
                self._logger.info("purged the facts of an archived run", run=run)
            case Forget(run):
                if await self._bus.log.read(Archived.pattern(run=run)) is None:
                    return  # another replica was faster, and by now the id may be that of a new run
                await self._bus.bulk.purge(bulk_of_run(run))
                await self._bus.views.remove(run)
                await self._bus.log.purge(all_facts_of(run))  # the last, since it makes this due
                self._logger.info("removed what was left of a run", run=run)
            case _:
                raise AssertionError(f"archiving does not perform {effect!r}")

    async def _archive(self, run: str) -> None:
        read = await self._read(run)
        if read.archived or read.packer.facts == 0:
            return  # another replica was faster
        if read.skipped:
            raise Corrupt(f"{read.skipped} messages of {run} cannot be read, so it stays on the log; upgrade, or purge it by hand")
        for view in read.views.values():
            await self._bus.views.put(Viewed(view.run, body(view), view.sequence))
        await self._bus.bulk.purge(bulk_of_round(run, "*", "update"))  # once more: over a slow line some came when it had ended
        piece = await self._write(archive_piece(run, secrets.token_hex(8)), read.packer.end())
        archived = Archived(run=run, at=self._clock(), facts=read.packer.facts, piece=piece)
        stated = await self._bus.log.state(archived, fence=Fence(all_facts_of(run), read.sequence), traceparent=run_traceparent(run))
        if stated.mine:
            self._logger.info("archived", run=run, facts=archived.facts, bytes=piece.bytes)
            return
        await self._bus.bulk.purge(chunks_of(piece.subject))
        if stated.record is None:
            raise BusError(f"something was said about {run} while it was being archived")

    async def _write(self, subject: str, data: memoryview) -> Piece:
        try:
            return await self._bus.bulk.write(subject, data, CHUNK_BYTES)
        except BusFull:
            await self._bus.bulk.purge(chunks_of(subject))  # or each try would take what room has become free
            raise

    async def _read(self, run: str) -> _Read:
        read = _Read()
        try:
            async with asyncio.timeout(READ_SECONDS):
                async for batch in self._bus.log.tail([all_facts_of(run)]):
                    for record in batch.records:
                        read.archived = read.archived or isinstance(record.fact, Archived)
                        read.packer.add(record)
                        read.views = read.phases.evolve(read.views, record)
                    read.sequence = max(read.sequence, batch.sequence)
                    read.skipped += batch.skipped
                    if batch.live:
                        break
        except TimeoutError as error:
            raise Unreachable(f"the facts of {run} could not be read within {READ_SECONDS:g} s") from error
        return read
