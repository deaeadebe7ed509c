"""Bytes between the bus and this machine's disk: a model comes down, an update goes up.

Either may be larger than memory and is never held in it: a model is written as it arrives, an update is sent from a mapping of its file.
The pieces' digests are the bus's to check; that an update is one the aggregator can fold is checked here, before anything is sent.
When to fetch and when to send, and what becomes of a failure, is the caller's business.
"""

import asyncio
import mmap
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, TypeVar

import structlog

from fedplane.runtime.errors import AppFailed, BadInput, BusError, Unreachable
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import digest
from fedplane.schemas.facts import Invited
from fedplane.schemas.layout import HEADER_BYTES_MAX, BadLayout, Layout, Tensor, cut, parse_header
from fedplane.schemas.models import Piece
from fedplane.schemas.subjects import update_piece

__all__ = [
    "Stored", "Update", "check_update", "collect", "digests_of", "fresh_attempt", "in_a_row", "insist", "mapped", "overlapping", "remove",
    "spans", "store", "upload", "write_at",
]  # fmt: skip

T = TypeVar("T")

RETRY_SECONDS = 1.0
"""How long to wait before asking a bus again that did not answer: a server needs about that to restart."""

ATTEMPT_BYTES = 8
"""64 random bits tell attempts of one cluster in one round apart; there are a handful."""

PIECES_AT_ONCE = 2
"""How many shards are on their way at a time: while the last chunks of one are waited for, those of the next keep the line busy.
That moves a third more bytes a second than one after the other (measured); a third shard adds nothing.
"""

LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header in so many bytes."""


@dataclass(frozen=True, slots=True)
class Update:
    """A file that can be sent: its layout as the file has it, and the size of the flat buffer that follows."""

    path: Path
    header: bytes
    bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An update on the bus."""

    attempt: str
    layout: Piece
    shards: tuple[Piece, ...]


async def insist(step: Callable[[], Awaitable[T]], *, on: tuple[type[BusError], ...] = (Unreachable,)) -> T:
    """Take the step again and again until the bus answers. The caller bounds how long."""
    while True:
        try:
            return await step()
        except on as error:
            structlog.get_logger().warning("will try again", why=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def collect(bulk: Bulk, pieces: Sequence[Piece], path: Path) -> None:
    """Write the pieces one after the other into a file. Raises Corrupt when bytes are missing or not those that were stored."""
    with path.open("wb") as file:
        await write_at(bulk, file, in_a_row(pieces))


def in_a_row(pieces: Sequence[Piece]) -> list[tuple[Piece, int]]:
    """The pieces, and where in a file each begins when they follow one another."""
    begins = accumulate((piece.bytes for piece in pieces), initial=0)
    return list(zip(pieces, begins, strict=False))


async def write_at(bulk: Bulk, file: BinaryIO, placed: Iterable[tuple[Piece, int]]) -> None:
    """Write each piece to its place in the file. Raises Corrupt as `collect` does."""
    await overlapping(partial(insist, partial(_append, bulk, piece, file, begin)) for piece, begin in placed)


async def _append(bulk: Bulk, piece: Piece, file: BinaryIO, begin: int) -> None:
    async for offset, chunk in bulk.read(piece):  # asked again, a piece is written over its first half
        file.seek(begin + offset)
        file.write(chunk)


def check_update(path: Path, model: Path | None, bytes_max: int) -> Update:
    """What the app left, if the aggregator can use it.

    Raises AppFailed when there is no such file, it is too large or no safetensors file, or its tensors are not the model's.
    """
    if not path.is_file():
        raise AppFailed("no-update", f"the app finished without leaving {path.name}")
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _header(file)
    if size > bytes_max:
        raise AppFailed(
            "update-too-large", f"the update has {size} bytes, and this cluster sends at most {bytes_max} (FEDPLANE_UPDATE_BYTES_MAX)"
        )
    try:
        layout = parse_header(header)
    except BadLayout as error:
        raise AppFailed("bad-update", f"the update is no safetensors file that can be folded: {error}") from error
    if size != len(header) + layout.bytes:
        raise AppFailed("bad-update", f"the update's header describes {len(header) + layout.bytes} bytes, but the file has {size}")
    if model is not None:
        _check_same_layout(header, layout, model)
    return Update(path, header, layout.bytes)


def _header(file: BinaryIO) -> bytes:
    length = file.read(LENGTH_BYTES)
    there = os.fstat(file.fileno()).st_size  # room is made for what is asked for, and a file may say that it has any number
    return length + file.read(min(int.from_bytes(length, "little"), HEADER_BYTES_MAX, there))


def _check_same_layout(header: bytes, layout: Layout, model: Path) -> None:
    with model.open("rb") as file:
        wanted = _header(file)
    if header == wanted:
        return
    pairs = zip_longest(layout.tensors, parse_header(wanted).tensors)
    different = next((f"{_shown(ours)} where the model has {_shown(theirs)}" for ours, theirs in pairs if ours != theirs), None)
    said = f"the update has {different}" if different else "the update has the model's tensors, but another order or other metadata"
    raise AppFailed("wrong-layout", f"{said}; return exactly the tensors that were given, with their names, shapes and dtypes")


def _shown(tensor: Tensor | None) -> str:
    return f"{tensor.dtype} tensor {tensor.name!r} of shape {list(tensor.shape)}" if tensor else "no tensor"


async def upload(bulk: Bulk, update: Update, invited: Invited) -> Stored:
    """Store the update's layout and shards under a fresh attempt, so that attempts never mix.

    Raises BusFull when there is no room, BadInput when the invitation's sizes cannot be used.
    """
    attempt = fresh_attempt()
    place = partial(update_piece, invited.run, invited.round, invited.cluster, attempt)
    return Stored(attempt, *await store(bulk, update, place, spans(update, invited), invited.chunk_bytes))


def spans(update: Update, invited: Invited) -> list[tuple[int, int]]:
    """Where each shard of the update begins and ends. Raises BadInput when the invitation's sizes cannot be used."""
    if invited.chunk_bytes < 1:
        raise BadInput(f"the invitation asks for chunks of {invited.chunk_bytes} bytes")
    try:
        return cut(update.bytes, invited.shard_bytes)
    except ValueError as error:
        raise BadInput(f"the invitation asks for shards that cannot be: {error}") from error


def fresh_attempt() -> str:
    """A name for an attempt that no other has."""
    return secrets.token_hex(ATTEMPT_BYTES)


async def store(
    bulk: Bulk, update: Update, place: Callable[[int | str], str], ranges: Sequence[tuple[int, int]], chunk_bytes: int,
    stored: Mapping[int, Piece] = MappingProxyType({}),
) -> tuple[Piece, tuple[Piece, ...]]:  # fmt: skip
    """Store the layout, and these ranges of the flat buffer as shards, each at its place, but for those that are `stored`, by number.

    Raises BusFull when there is no room.
    """
    layout = await bulk.write(place("layout"), memoryview(update.header), chunk_bytes)
    flat = mapped(update)
    missing = [shard for shard in range(len(ranges)) if shard not in stored]
    written = await overlapping(
        partial(bulk.write, place(shard), flat[ranges[shard][0] : ranges[shard][1]], chunk_bytes) for shard in missing
    )
    shards = {**stored, **dict(zip(missing, written, strict=True))}
    return layout, tuple(shards[shard] for shard in range(len(ranges)))


def digests_of(update: Update, ranges: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The digests of the update's layout, and of these ranges of its flat buffer. Blocks."""
    flat = mapped(update)
    return digest(update.header), *(digest(flat[begin:end]) for begin, end in ranges)


async def overlapping(steps: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """What the steps return, in their order, when some of them are taken at a time. The first failure ends all."""
    room = asyncio.Semaphore(PIECES_AT_ONCE)

    async def take(step: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await step()

    tasks = [asyncio.create_task(take(step)) for step in steps]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def mapped(update: Update) -> memoryview:
    """The flat buffer, read from disk as it is sent.

    Nobody closes the mapping: a chunk on its way may still point into it, and it goes with the last one.
    """
    with update.path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[len(update.header) :]


def remove(folder: Path) -> None:
    """Remove a folder of ours and all that is in it. What cannot be removed is logged and stays."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        structlog.get_logger().warning("not removed", folder=str(folder), why=str(error))
