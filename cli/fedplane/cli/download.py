"""A model from the bus into a file that every safetensors reader opens: the layout, then the shards.

The file appears whole or not at all, under its name: it is written beside it and renamed when every digest is right.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fedplane.runtime.errors import BadInput, Corrupt, Unavailable
from fedplane.runtime.ports import Bulk
from fedplane.schemas.layout import BadLayout, parse_header
from fedplane.schemas.models import Model, model_digest

__all__ = ["chunks", "save", "size"]


def size(model: Model) -> int:
    """How many bytes the file will have."""
    return model.layout.bytes + sum(shard.bytes for shard in model.shards)


async def save(bulk: Bulk, model: Model, path: Path, advanced: Callable[[int], None] = lambda size: None) -> None:
    """Write the model to the file; `advanced` hears of every chunk's bytes.

    Raises Corrupt when the bytes are not the model's, BadInput when there can be no such file, Unavailable when the disk is full.
    """
    with _replacing(path) as file:
        async for chunk in chunks(bulk, model):
            file.write(chunk)
            advanced(len(chunk))


async def chunks(bulk: Bulk, model: Model) -> AsyncIterator[memoryview]:
    """The file's bytes, the layout first. Raises Corrupt when they are not the model's, perhaps only after the last of them."""
    if model_digest(model.layout, model.shards) != model.digest:
        raise Corrupt(f"the parts of the model of round {model.round} of {model.run} are not those that its digest names")
    header = bytearray()
    async for _, chunk in bulk.read(model.layout):
        header += chunk
    _check(bytes(header), model)
    yield memoryview(header)
    for shard in model.shards:
        async for _, chunk in bulk.read(shard):
            yield chunk


def _check(header: bytes, model: Model) -> None:
    try:
        layout = parse_header(header)
    except BadLayout as error:
        raise Corrupt(f"the layout of the model of round {model.round} of {model.run} is not valid: {error}") from error
    stored = sum(shard.bytes for shard in model.shards)
    if layout.bytes != stored:
        raise Corrupt(f"the layout of the model of round {model.round} of {model.run} describes {layout.bytes} bytes, stored are {stored}")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place if the block succeeds, and goes away if not."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{path} could not be written: {error.strerror}; free space, or name a file on another disk by -o") from error
    finally:
        partial.unlink(missing_ok=True)
