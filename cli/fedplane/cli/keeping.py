"""Keeping a run's model where it outlives the bus: one safetensors file, and a manifest that says what it is.

The model appears first and the manifest last, each whole. So a manifest's digest is that of the file beside it, unless somebody was
killed between the two; then it is not, and keeping the model again mends it. What is kept already is not written again.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from pathlib import PurePosixPath

from fedplane.cli.download import chunks
from fedplane.cli.folders import Folder, locate
from fedplane.cli.manifest import MANIFEST_BYTES_MAX, Manifest, Origin, parse, write
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.digests import Hashing
from fedplane.schemas.models import Model

__all__ = ["MODEL_FILE", "Outcome", "keep", "manifest_file", "recorded"]

MODEL_FILE = "model.safetensors"
"""The model's name in a folder."""


class Outcome(Enum):
    """What became of a request to keep a model."""

    KEPT = "kept"
    THERE = "there already"
    LATER = "a later run's is there"


async def keep(
    bulk: Bulk, model: Model, origin: Origin, address: str, *, only_newer: bool = False, advanced: Callable[[int], None] = lambda size: None
) -> tuple[Outcome, str]:
    """Keep the model at the address; say what became of it, and the model's file.

    `only_newer` leaves a model alone whose run ended after this one's. Raises Corrupt when what was written is not what is read back.
    """
    folder, name = await asyncio.to_thread(locate, address)
    name = name or MODEL_FILE
    place = f"{folder.where}/{name}"
    before = await asyncio.to_thread(recorded, folder, name)
    if before is not None and before.origin == origin and await asyncio.to_thread(_hashed, folder, name) == before.file_digest:
        return Outcome.THERE, place
    if only_newer and before is not None and before.origin.ended_at > origin.ended_at:
        return Outcome.LATER, place
    hashing, size = Hashing(), 0
    upload = await asyncio.to_thread(folder.begin, name)
    try:
        async for chunk in chunks(bulk, model):
            hashing.update(chunk)
            await asyncio.to_thread(upload.write, chunk)
            size += len(chunk)
            advanced(len(chunk))
        await asyncio.to_thread(upload.commit)
    except BaseException:  # Ctrl-C included: half a file is of use to nobody
        upload.discard()
        raise
    if await asyncio.to_thread(_hashed, folder, name) != hashing.digest:
        raise Corrupt(f"{place} was written, and other bytes were read back; is the disk or the bucket damaged?")
    manifest = Manifest(file=name, bytes=size, file_digest=hashing.digest, origin=origin)
    await asyncio.to_thread(_write, folder, manifest_file(name), write(manifest))
    return Outcome.KEPT, place


def manifest_file(name: str) -> str:
    """The name of a model file's manifest; a model in a file of its own name has one of that name."""
    return "manifest.json" if name == MODEL_FILE else f"{PurePosixPath(name).stem}.manifest.json"


def recorded(folder: Folder, name: str) -> Manifest | None:
    """What the manifest says of the file; None if there is none that can be read. Blocks."""
    written = bytearray()
    try:
        for block in folder.read(manifest_file(name)):
            written += block
            if len(written) > MANIFEST_BYTES_MAX:
                return None
        return parse(bytes(written))
    except (FileNotFoundError, Corrupt):  # nothing was kept here, or something else was: then the file speaks for itself
        return None


def _hashed(folder: Folder, name: str) -> str | None:
    hashing = Hashing()
    try:
        for block in folder.read(name):
            hashing.update(block)
    except FileNotFoundError:
        return None
    return hashing.digest


def _write(folder: Folder, name: str, data: bytes) -> None:
    upload = folder.begin(name)
    try:
        upload.write(data)
        upload.commit()
    except BaseException:  # as above
        upload.discard()
        raise
