"""Who is thrown out for what is stored, and who is not: a log may be heard of later than sizes are, and operators have the last word."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from fedplane.authorizer.policing import REMOVED_FOR, Policing
from fedplane.authorizer.quotas import SLACK_BYTES
from fedplane.runtime.memory import MemoryLog
from fedplane.runtime.ports import Batch
from fedplane.schemas.facts import Declined, Keyed, Opened, Revealed, Revoked, Shared
from fedplane.schemas.models import Task
from fedplane.schemas.subjects import model_piece, update_piece, updates_of

RUN, CLUSTER = "cats-01234567", "amsterdam"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
LARGE = SLACK_BYTES + 1
TOO_MUCH = f"run {RUN}: it stored 64,000,001 bytes of updates for rounds that nobody asked it about, and 64,000,000 are tolerated"


class Stored:
    """What is stored, in the order in which it is, and which chunks were removed. `now` is by the clock."""

    def __init__(self) -> None:
        self.sizes = {stream: asyncio.Queue[tuple[str, int]]() for stream in ("LOG", "BULK")}
        self.removed, self.now = list[str](), NOW

    async def follow(self, stream: str, subjects: Sequence[str]) -> AsyncIterator[list[tuple[str, int]]]:
        while True:
            yield [await self.sizes[stream].get()]

    async def purge(self, stream: str, pattern: str) -> None:
        self.removed.append(pattern)


class LateLog(MemoryLog):
    """A log that has what it has, and of which one hears nothing."""

    async def tail(self, patterns: Sequence[str], after: object = 0) -> AsyncIterator[Batch]:
        yield Batch((), live=True)
        await asyncio.Event().wait()

    def revoked(self) -> list[str]:
        return [record.fact.message for record in self.records if isinstance(record.fact, Revoked)]


class Scene:
    """A replica that polices what is stored beside a log of which it hears nothing but what it asks for."""

    def __init__(self) -> None:
        self.log, self.stored = LateLog("/test"), Stored()

    async def stores(self, *chunks: tuple[str, int]) -> None:
        for each in chunks:
            self.stored.sizes["LOG" if each[0].startswith("log.") else "BULK"].put_nowait(each)
        for _ in range(100):
            await asyncio.sleep(0)

    async def __aenter__(self) -> "Scene":
        await self.log.state(_opened(1))
        policing = Policing(self.log, self.stored, self.stored, 10 * LARGE, lambda: self.stored.now)
        self._task = asyncio.create_task(policing.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


def _opened(round_: int) -> Opened:
    named = {"run": RUN, "round": round_, "clusters": (CLUSTER,)}
    return Opened(
        **named, at=NOW, task=Task.INITIALIZE, training_round=0, minimum=1, deadline=NOW, shard_bytes=1_000_000, chunk_bytes=1_000_000
    )


def _chunk(round_: int | str) -> str:
    return f"{update_piece(RUN, round_, CLUSTER, 'a', 0)}.0"


async def test_nobody_is_thrown_out_because_a_round_was_not_heard_of_yet() -> None:
    async with Scene() as scene:
        await scene.stores((_chunk(1), LARGE))

        assert (scene.log.revoked(), scene.stored.removed) == ([], [])


async def test_who_stores_too_much_for_a_round_that_there_is_not_is_thrown_out_and_its_chunks_are_removed() -> None:
    async with Scene() as scene:
        await scene.stores((_chunk(7), LARGE), (_chunk(7), 0))

        assert (scene.log.revoked(), scene.stored.removed) == ([TOO_MUCH], [updates_of(RUN, CLUSTER)] * 2)


async def test_what_who_was_let_in_again_stores_is_not_removed() -> None:
    async with Scene() as scene:
        await scene.stores((_chunk(7), LARGE))
        scene.stored.now += 2 * REMOVED_FOR
        await scene.stores((_chunk(1), 1))

        assert (scene.log.revoked(), scene.stored.removed) == ([TOO_MUCH], [updates_of(RUN, CLUSTER)])


async def test_facts_about_rounds_that_there_are_not_are_removed_from_the_log_and_others_stay() -> None:
    about = [f"log.{Declined.pattern(run=RUN, round=number, cluster=CLUSTER)}" for number in (1, 7)]
    async with Scene() as scene:
        await scene.stores(*((subject, 600_000) for subject in about), (about[0], 1))

        assert [message.partition(",")[0] for message in scene.log.revoked()] == [f"run {RUN}: its facts have 1"]
        assert scene.stored.removed == [updates_of(RUN, CLUSTER), about[1], updates_of(RUN, CLUSTER)]


async def test_keys_and_shares_of_a_masked_round_are_facts_like_others() -> None:
    about = [f"log.{fact.pattern(run=RUN, round=1, cluster=CLUSTER)}" for fact in (Keyed, Shared, Revealed)]
    async with Scene() as scene:
        await scene.stores(*((subject, 400_000) for subject in about))

        assert scene.log.revoked() == [f"run {RUN}: its facts have 1,200,000 bytes, and in 0 rounds 1,000,000 are many"]


async def test_a_wildcard_in_a_subject_hides_nothing_and_what_others_store_counts_for_nobody() -> None:
    async with Scene() as scene:
        await scene.stores((f"{model_piece(RUN, 1, 'a', 0)}.0", 10 * LARGE))
        assert scene.log.revoked() == []
        await scene.stores((_chunk(">"), 1))

        assert [message.partition(" under ")[0] for message in scene.log.revoked()] == [f"run {RUN}: it stored 1 bytes"]
