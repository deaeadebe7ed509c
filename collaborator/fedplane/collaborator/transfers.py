"""Bytes between the bus and this machine's disk: a model comes down, an update goes up.

Either may be larger than memory and is never held in it: a model is written as it arrives, an update is sent from a mapping of its file.
The pieces' digests are the bus's to check; that an update is one the aggregator can fold is checked here, before anything is sent.
When to fetch and when to send, and what becomes of a failure, is the caller's business.
"""

import asyncio
import mmap
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from fedplane.runtime.errors import AppFailed, BadInput, BusError, Unreachable
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import digest, digest_of_digests
from fedplane.schemas.facts import Invited
from fedplane.schemas.layout import HEADER_BYTES_MAX, BadLayout, Layout, Tensor, cut, parse_header
from fedplane.schemas.models import Model, Piece
from fedplane.schemas.subjects import update_piece

__all__ = ["Stored", "Update", "check_update", "collect", "digest_of", "fetch", "fresh_attempt", "insist", "remove", "store", "upload"]

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


async def fetch(bulk: Bulk, model: Model, folder: Path) -> Path:
    """The model as a file in the folder: the one that is there, else fetched in place of whatever the folder held.

    Raises Corrupt when the bytes are missing or not those that were stored.
    """
    path = folder / f"{model.digest.replace(':', '-')}.safetensors"  # not every file system takes a colon
    if path.is_file():
        return path
    await collect(bulk, (model.layout, *model.shards), _emptied(folder) / "part")
    return _kept(folder / "part", path)


async def collect(bulk: Bulk, pieces: Sequence[Piece], path: Path) -> None:
    """Write the pieces one after the other into a file. Raises Corrupt when bytes are missing or not those that were stored."""
    begins = accumulate((piece.bytes for piece in pieces), initial=0)
    with path.open("wb") as file:
        await _overlapping(
            partial(insist, partial(_append, bulk, piece, file, begin)) for piece, begin in zip(pieces, begins, strict=False)
        )


def _emptied(folder: Path) -> Path:
    remove(folder)
    folder.mkdir(parents=True)
    return folder


def _kept(part: Path, path: Path) -> Path:
    part.chmod(0o444)  # the app is given this very file, and the next round needs it as it is
    return part.rename(path)


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
    return length + file.read(min(int.from_bytes(length, "little"), HEADER_BYTES_MAX))


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
    if invited.chunk_bytes < 1:
        raise BadInput(f"the invitation asks for chunks of {invited.chunk_bytes} bytes")
    try:
        ranges = cut(update.bytes, invited.shard_bytes)
    except ValueError as error:
        raise BadInput(f"the invitation asks for shards that cannot be: {error}") from error
    return Stored(attempt, *await store(bulk, update, place, ranges, invited.chunk_bytes))


def fresh_attempt() -> str:
    """A name for an attempt that no other has."""
    return secrets.token_hex(ATTEMPT_BYTES)


async def store(
    bulk: Bulk, update: Update, place: Callable[[int | str], str], ranges: Sequence[tuple[int, int]], chunk_bytes: int
) -> tuple[Piece, tuple[Piece, ...]]:
    """Store the layout, and these ranges of the flat buffer as shards, each at its place. Raises BusFull when there is no room."""
    layout = await bulk.write(place("layout"), memoryview(update.header), chunk_bytes)
    flat = _mapped(update)
    shards = await _overlapping(
        partial(bulk.write, place(shard), flat[begin:end], chunk_bytes) for shard, (begin, end) in enumerate(ranges)
    )
    return layout, tuple(shards)


def digest_of(update: Update, ranges: Sequence[tuple[int, int]]) -> str:
    """The digest that the update has as a model, when these ranges of it are the shards."""
    flat = _mapped(update)
    return digest_of_digests([digest(update.header), *(digest(flat[begin:end]) for begin, end in ranges)])


async def _overlapping(steps: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
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


def _mapped(update: Update) -> memoryview:
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
