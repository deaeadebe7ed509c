"""A run's model on this machine's disk: the one that is there, or else fetched, but for the shards that the last one had as well.

Models of one run resemble each other less than one would think: after a training round every shard is another.
But an app's own server sends the model once to be evaluated and once more to be trained, with other words beside it.
Then the layout differs, in which the words are, and every shard has the digest that it had; so a cluster copies it from its own disk.
What the last file's shards are is written beside it. Whoever is killed in the midst of this fetches everything.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fedplane.collaborator.transfers import in_a_row, remove, write_at
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.ports import Bulk
from fedplane.schemas.layout import cut
from fedplane.schemas.models import Model, Piece, model_digest

__all__ = ["fetch"]

_SHARDS = "shards.json"

_PART = "part"

_BLOCK_BYTES = 2**20
"""Read and written at a time when a shard is copied, so that memory does not grow with it."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A file that was fetched before: where in it the bytes with a digest begin."""

    path: Path
    begins: Mapping[str, int]


async def fetch(bulk: Bulk, model: Model, folder: Path) -> Path:
    """The model as a file in the folder, in place of whatever the folder held.

    Raises Corrupt when the bytes are missing or not those that were stored.
    """
    digest = model_digest(model.layout, model.shards)  # what the file is known by is what is in it, and not what somebody calls that
    path = folder / f"{digest.replace(':', '-')}.safetensors"  # not every file system takes a colon
    if path.is_file():
        return path
    held, placed = _held(folder), in_a_row((model.layout, *model.shards))
    here = [(piece, begin) for piece, begin in placed if piece.digest in held.begins]
    part = _begun(folder, fresh=not here)
    with part.open("wb") as file:
        await write_at(bulk, file, [each for each in placed if each not in here])
        await asyncio.to_thread(_copy, held, here, file)
    if here:
        held.path.unlink()
    (folder / _SHARDS).write_text(json.dumps({"file": path.name, "begins": {piece.digest: begin for piece, begin in placed}}))
    part.chmod(0o444)  # the app is given this very file, and the next round needs it as it is
    return part.rename(path)


def _begun(folder: Path, *, fresh: bool) -> Path:
    """Where a file of the folder can be written; if `fresh`, there is nothing else in the folder."""
    if fresh:
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _PART).unlink(missing_ok=True)
    return folder / _PART


def _held(folder: Path) -> _Held:
    """The last file that was fetched. If there is none, or whoever fetched it was killed before it was there, nothing is known of it."""
    try:
        told = json.loads((folder / _SHARDS).read_text())
    except (FileNotFoundError, ValueError):
        return _Held(folder, {})
    path = folder / told["file"]
    return _Held(path, told["begins"] if path.is_file() else {})


def _copy(held: _Held, placed: Sequence[tuple[Piece, int]], file: BinaryIO) -> None:
    """Blocks. Raises Corrupt if the last file is not what it was; then it is not there any more, either."""
    for piece, begin in placed:
        with held.path.open("rb") as before:
            before.seek(held.begins[piece.digest])
            file.seek(begin)
            for block in cut(piece.bytes, _BLOCK_BYTES):
                data = before.read(block[1] - block[0])
                if len(data) < block[1] - block[0]:
                    held.path.unlink()
                    raise Corrupt(f"{held.path} had become shorter since it was fetched")
                file.write(data)
