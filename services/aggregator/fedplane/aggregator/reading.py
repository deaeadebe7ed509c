"""Reading members' updates chunk by chunk, all members side by side, a few chunks ahead, with every byte's digest checked at the end.

Chunks of different members alternate because a fold wants the same part of everyone's update at once.
They are handed over several members at a time, because a fold reads the updates of several in one pass.
Memory is a window of chunks, however large the updates are and however many members there are.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import Hashing
from fedplane.schemas.models import Piece

__all__ = ["MEMBERS_AT_ONCE", "WINDOW_CHUNKS", "Damaged", "SideBySide", "whole"]

WINDOW_CHUNKS = 13
"""Chunks on their way, waiting or being folded: 13 MB, enough for about 200 MB/s at a round trip of 50 ms.
With them and a chunk's sums, 2 MB of float64, a fold takes less than 16 MB besides its result.
"""

MEMBERS_AT_ONCE = 4
"""How many members' chunks are handed over together: one pass of a sum reads them.
The rest of the window, twice as much, is on its way meanwhile.
"""


class SideBySide:
    """Pieces of equal size, read together."""

    def __init__(self, bulk: Bulk, pieces: Sequence[Piece]) -> None:
        self._bulk = bulk
        self._pieces = pieces
        self._hashings = [Hashing() for _ in pieces]

    async def chunks(self) -> AsyncIterator[tuple[int, int, list[memoryview]]]:
        """Chunk number, index of the first of some neighbouring pieces, and the bytes of each of them.

        All pieces of one chunk come before the next chunk, in order. The list is empty afterwards: who keeps bytes copies it.
        Raises Damaged that names the piece.
        """
        pieces, chunks = len(self._pieces), max((piece.chunks for piece in self._pieces), default=0)
        coming: dict[int, asyncio.Task[memoryview]] = {}
        try:
            for begin in (chunk * pieces + first for chunk in range(chunks) for first in range(0, pieces, MEMBERS_AT_ONCE)):
                chunk, first = divmod(begin, pieces)
                end = begin + min(MEMBERS_AT_ONCE, pieces - first)
                for ahead in range(begin, min(begin + WINDOW_CHUNKS, chunks * pieces)):
                    if ahead not in coming:
                        coming[ahead] = asyncio.create_task(self._bulk.chunk(self._pieces[ahead % pieces], ahead // pieces))
                arrived = [await self._arrived(coming[each], each % pieces) for each in range(begin, end)]
                yield chunk, first, arrived
                arrived.clear()  # the reader's variable still names the list
                for each in range(begin, end):
                    del coming[each]  # only now: while they are being folded, they count as being in the window
        finally:
            for task in coming.values():
                task.cancel()

    async def _arrived(self, chunk: asyncio.Task[memoryview], index: int) -> memoryview:
        try:
            return await chunk
        except Corrupt as error:
            raise Damaged(index, str(error)) from error

    def hash(self, index: int, data: memoryview) -> None:
        """Take a chunk into its piece's digest; to be called for every chunk, those of a piece in order, from any thread."""
        self._hashings[index].update(data)

    def check(self) -> None:
        """Raise Damaged if a piece's bytes are not those that were stored."""
        for index, (piece, hashing) in enumerate(zip(self._pieces, self._hashings, strict=True)):
            if hashing.digest != piece.digest:
                raise Damaged(index, f"the bytes of {piece.subject} are not those that were stored")


class Damaged(Corrupt):
    """One of the pieces cannot be read; `index` says which."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


async def whole(bulk: Bulk, piece: Piece) -> bytearray:
    """All bytes of a piece. Raises Corrupt."""
    out = bytearray(piece.bytes)
    async for offset, chunk in bulk.read(piece):
        out[offset : offset + len(chunk)] = chunk
    return out
