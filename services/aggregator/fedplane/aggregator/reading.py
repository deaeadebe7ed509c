"""Reading members' updates chunk by chunk, all members side by side, a few chunks ahead, with every byte's digest checked at the end.

Chunks of different members alternate because a fold wants the same part of everyone's update at once.
Memory is a window of chunks, however large the updates are and however many members there are.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from itertools import product

from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.models import Piece

__all__ = ["SideBySide", "whole"]

WINDOW_CHUNKS = 16
"""Chunks on their way or waiting to be folded: 16 MB, enough to cover a round trip of 50 ms at 200 MB/s."""


class SideBySide:
    """Pieces of equal size, read together."""

    def __init__(self, bulk: Bulk, pieces: Sequence[Piece]) -> None:
        self._bulk = bulk
        self._pieces = pieces
        self._digests = [hashlib.sha256() for _ in pieces]

    async def chunks(self) -> AsyncIterator[tuple[int, int, memoryview]]:
        """Chunk number, index of the piece, and the bytes; the pieces of one chunk in order, then those of the next.

        Raises Damaged that names the piece.
        """
        wanted = list(product(range(max((piece.chunks for piece in self._pieces), default=0)), range(len(self._pieces))))
        coming: dict[int, asyncio.Task[memoryview]] = {}
        try:
            for position, (chunk, index) in enumerate(wanted):
                for ahead in range(position, min(position + WINDOW_CHUNKS, len(wanted))):
                    if ahead not in coming:
                        of, at = wanted[ahead]
                        coming[ahead] = asyncio.create_task(self._bulk.chunk(self._pieces[at], of))
                try:
                    data = await coming[position]
                except Corrupt as error:
                    raise Damaged(index, str(error)) from error
                yield chunk, index, data
                del coming[position]  # only now: while it is being folded, it counts as being in the window
        finally:
            for task in coming.values():
                task.cancel()

    def hash(self, index: int, data: memoryview) -> None:
        """Take a chunk into its piece's digest; to be called for every chunk, in order, from any thread."""
        self._digests[index].update(data)

    def check(self) -> None:
        """Raise Damaged if a piece's bytes are not those that were stored."""
        for index, (piece, digest) in enumerate(zip(self._pieces, self._digests, strict=True)):
            if digest.hexdigest() != piece.digest:
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
