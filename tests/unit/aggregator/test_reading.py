"""Members' pieces side by side: in order, in a window, with digests."""

import asyncio

import pytest

from fedplane.aggregator.reading import MEMBERS_AT_ONCE, WINDOW_CHUNKS, Damaged, SideBySide
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.models import Piece

CHUNK_BYTES = 8


class Watched(MemoryBulk):
    """Knows how many chunks were asked for and not yet let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def chunk(self, piece: Piece, index: int) -> memoryview:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().chunk(piece, index)


async def stored(bulk: MemoryBulk, members: int, size: int) -> list[Piece]:
    return [await bulk.write(f"piece{member:02}", memoryview(bytes([member]) * size), CHUNK_BYTES) for member in range(members)]


@pytest.mark.parametrize("members", [1, 2, MEMBERS_AT_ONCE, MEMBERS_AT_ONCE + 1, 3 * MEMBERS_AT_ONCE])
async def test_all_of_a_chunk_comes_before_the_next_several_members_at_a_time(members) -> None:
    bulk = Watched()
    side = SideBySide(bulk, await stored(bulk, members, 20))
    read = [(chunk, first, [bytes(data) for data in arrived]) async for chunk, first, arrived in side.chunks()]

    assert read == [
        (chunk, first, [bytes([member]) * size for member in range(first, min(first + MEMBERS_AT_ONCE, members))])
        for chunk, size in enumerate((8, 8, 4))
        for first in range(0, members, MEMBERS_AT_ONCE)
    ]


async def test_no_more_than_a_window_is_asked_for_and_held() -> None:
    bulk, given, most = Watched(), 0, 0
    side = SideBySide(bulk, await stored(bulk, 30, 80))
    async for _, _, arrived in side.chunks():
        await asyncio.sleep(0)
        most = max(most, bulk.asked - given)
        given += len(arrived)

    assert (most, given, bulk.asked) == (WINDOW_CHUNKS, 300, 300)


async def test_what_was_folded_is_let_go() -> None:
    bulk, before = MemoryBulk(), None
    async for _, _, arrived in SideBySide(bulk, await stored(bulk, 2, 20)).chunks():
        assert before in (None, [])
        before = arrived


async def test_nothing_comes_of_no_pieces_and_of_pieces_of_nothing() -> None:
    bulk = MemoryBulk()
    sides = [SideBySide(bulk, pieces) for pieces in ([], await stored(bulk, 2, 0))]

    assert [[each async for each in side.chunks()] for side in sides] == [[], []]


async def test_a_missing_chunk_names_its_member() -> None:
    bulk = MemoryBulk()
    side = SideBySide(bulk, await stored(bulk, 3, 20))
    del bulk.chunks["piece01.2"]

    with pytest.raises(Damaged, match=r"piece01\.2 is missing") as damage:
        _ = [each async for each in side.chunks()]
    assert damage.value.index == 1


async def test_changed_bytes_are_found_when_all_are_read_and_name_their_member() -> None:
    bulk = MemoryBulk()
    pieces = await stored(bulk, 3, 20)
    right, wrong = SideBySide(bulk, pieces), SideBySide(bulk, pieces)
    for side in (right, wrong):
        async for _, first, arrived in side.chunks():
            for index, data in enumerate(arrived, first):
                side.hash(index, data)
        bulk.chunks["piece02.1"] = bytes(8)
    right.check()

    with pytest.raises(Damaged, match="the bytes of piece02 are not those that were stored") as damage:
        wrong.check()
    assert damage.value.index == 2
