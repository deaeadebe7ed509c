"""Throwing out clusters that store far more than they were asked for, and making room again: the shell of `quotas`.

What counts as too much is decided there. Here the sizes are read, the last word is said, as a fact, and the cluster's chunks are removed:
of all that it stored in the run, since nothing of a cluster that was thrown out is waited for. Its facts stay, as the log's facts do,
unless they are about rounds that there are not: nothing follows from such a fact, and a log that is full of them is full for everybody.
An operator who lets it in again has the last word about that run.

Rounds are read before sizes, or what is there at the start would be too much for a run of which nothing is known.
Later the reading of rounds may fall behind that of sizes, so nobody is thrown out before the log was asked for the rounds in question.
All that is stored for a run is looked at: a pattern of what clusters store would not match a subject that has a wildcard for a word.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from fedplane.authorizer import jetstream as js
from fedplane.authorizer.grants import ANSWERS
from fedplane.authorizer.quotas import Quotas, Stored, excess
from fedplane.runtime.errors import BusError
from fedplane.runtime.ports import Log
from fedplane.schemas.facts import (
    Archived,
    Cancelled,
    Completed,
    Failed,
    Opened,
    Revoked,
    RunFact,
    all_facts_of,
    parse_answer,
)
from fedplane.schemas.patterns import matches
from fedplane.schemas.roles import Role
from fedplane.schemas.subjects import bulk_of_run, parse_update, updates_of

__all__ = ["Policing", "Sizes"]

ENDS: tuple[type[RunFact], ...] = (Completed, Failed, Cancelled, Archived)
FOLLOWED = [Opened.pattern(), *(fact.pattern() for fact in ENDS)]

OF_CLUSTERS = {js.LOG: tuple(js.STATED + fact.pattern() for fact in ANSWERS), js.BULK: (updates_of("*", "*"),)}
"""What clusters store, by stream."""

WILDCARDS = frozenset("*>")

REMOVED_FOR = timedelta(seconds=60)
"""How long a cluster's chunks are removed after it was thrown out: its connections end a moment later, at the next look at the latest.
Who is let in again after that has the last word.
"""


class Sizes(Protocol):
    """How large messages are that are stored."""

    def follow(self, stream: str, subjects: Sequence[str]) -> AsyncIterator[list[tuple[str, int]]]:
        """Subject and bytes of each message that matches, for ever."""
        ...


class Chunks(Protocol):
    """What is stored besides facts."""

    async def purge(self, stream: str, pattern: str) -> None:
        """Remove what matches."""
        ...


class Policing:
    """One replica's. Two say the same of the same cluster, and the last word is the same word."""

    def __init__(self, log: Log, sizes: Sizes, chunks: Chunks, first_bytes: int, clock: Callable[[], datetime]) -> None:
        """`first_bytes` is what an update may have while a run has no model yet."""
        self._log, self._sizes, self._chunks = log, sizes, chunks
        self._first_bytes, self._clock = first_bytes, clock
        self._runs: dict[str, Quotas] = {}
        self._ended: set[str] = set()
        self._live = asyncio.Event()
        self._said: dict[tuple[str, str], datetime] = {}

    async def run(self) -> None:
        """Follow rounds and sizes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rounds())
            tasks.create_task(self._follow(js.LOG, js.STATED + all_facts_of()))
            tasks.create_task(self._follow(js.BULK, bulk_of_run("*")))

    async def throw_out(self, cluster: str, why: str) -> None:
        """Say the last word about a cluster. Raises BusError when that cannot be said now."""
        structlog.get_logger().warning("throwing a cluster out", cluster=cluster, why=why)
        await self._log.state(Revoked(at=self._clock(), role=Role.COLLABORATOR, name=cluster, message=why))

    async def _rounds(self) -> None:
        async for batch in self._log.tail(FOLLOWED):
            for record in batch.records:
                match record.fact:
                    case Opened(run=run) as opened if run not in self._ended:
                        self._runs[run] = self._of(run).opens(opened)
                    case Archived(run=run):
                        self._ended.discard(run)
                    case Completed(run=run) | Failed(run=run) | Cancelled(run=run):
                        self._ended.add(run)
                        self._runs.pop(run, None)
            if batch.live:
                self._live.set()

    async def _follow(self, stream: str, pattern: str) -> None:
        await self._live.wait()
        async for sizes in self._sizes.follow(stream, [pattern]):
            concerned: dict[tuple[str, str], list[Stored]] = {}
            for subject, size in sizes:
                stored = _stored(stream, subject, size)
                if stored is not None and stored.run not in self._ended:
                    self._runs[stored.run] = self._of(stored.run).stores(stored)
                    concerned.setdefault((stored.run, stored.cluster), []).append(stored)
            for (run, cluster), of_cluster in sorted(concerned.items(), key=lambda each: each[0]):
                await self._judge(run, cluster, [each for each in of_cluster if each.is_fact])

    async def _judge(self, run: str, cluster: str, facts: Sequence[Stored]) -> None:
        if not excess(self._of(run), cluster):
            return
        try:
            await self._catch_up(run, cluster)
            why, now = excess(self._of(run), cluster), self._clock()
            if not why or now > self._said.get((run, cluster), now) + REMOVED_FOR:
                return
            if (run, cluster) not in self._said:
                await self.throw_out(cluster, f"run {run}: {why}")
                self._said[run, cluster] = now
            await self._chunks.purge(js.BULK, updates_of(run, cluster))  # again and again: its connection ends a moment later
            for fact in facts:
                if not fact.is_hidden and await self._opened(run, fact.round) is None:
                    await self._chunks.purge(js.LOG, fact.subject)
        except BusError as error:  # what it stores next is a reason to try again
            structlog.get_logger().warning("could not throw a cluster out", cluster=cluster, why=str(error))

    async def _catch_up(self, run: str, cluster: str) -> None:
        """Ask the log for rounds that it may have and we have not read, so that nobody is thrown out because we are late."""
        for number in self._of(run).unheard_of(cluster):
            opened = await self._opened(run, number)
            if opened is not None and run not in self._ended:
                self._runs[run] = self._of(run).opens(opened)

    async def _opened(self, run: str, number: int) -> Opened | None:
        held = await self._log.read(Opened.pattern(run=run, round=number))
        return held.fact if held is not None and isinstance(held.fact, Opened) else None

    def _of(self, run: str) -> Quotas:
        return self._runs.get(run) or Quotas(self._first_bytes)


def _stored(stream: str, subject: str, size: int) -> Stored | None:
    """What a cluster has had stored; None for what others store."""
    if not any(matches(pattern, subject) for pattern in OF_CLUSTERS[stream]):
        return None
    is_fact = stream == js.LOG
    run, round_, cluster = parse_answer(subject.removeprefix(js.STATED)) if is_fact else parse_update(subject)
    return Stored(run, cluster, round_, size, is_fact, is_hidden=not WILDCARDS.isdisjoint(subject.split(".")), subject=subject)
