"""The model that a new run starts from: another run's, or a safetensors file of this machine or of a bucket.

Another run's model is named, and the aggregator copies it; a file is stored on the bus under the new run before the run is asked for.
A word is a run, as names of runs have neither dots nor slashes; whatever has one of them is a file, or a folder with a kept model.
"""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from fedplane.cli import runs
from fedplane.cli.checkpoints import checkpoint
from fedplane.cli.folders import locate
from fedplane.cli.keeping import MODEL_FILE, recorded
from fedplane.runtime.errors import BadInput, BusError, BusFull, Corrupt
from fedplane.runtime.ports import Bulk, Bus
from fedplane.schemas.digests import Hashing
from fedplane.schemas.facts import Completed
from fedplane.schemas.layout import ALIGNMENT_BYTES, HEADER_BYTES_MAX, BadLayout, Layout, cut, parse_header
from fedplane.schemas.models import Model, model_digest
from fedplane.schemas.names import run_id
from fedplane.schemas.resources import FederatedLearning
from fedplane.schemas.subjects import given_piece, layouts_of_models

__all__ = ["submit"]

SHARD_BYTES = 16_000_000
"""How much of a file is in memory at a time. The aggregator cuts its copy as it likes."""

SHARDS_MAX = 1_000
"""More would be too much for the fact that names them; a file that is larger than so many shards has larger ones."""

CHUNK_BYTES = 1_000_000
"""A message of the bus may have 1 MiB."""


async def submit(bus: Bus, resource: FederatedLearning, source: str, now: datetime) -> tuple[str, int]:
    """Ask for a run that starts from the source, or from what the resource names if the source is empty. See `runs.submit`."""
    source = source or resource.spec.server.initial_model
    if not source:
        return await runs.submit(bus, resource, now)
    if not {".", "/"} & set(source):
        return await runs.submit(bus, resource, now, await _of_run(bus, source))
    try:
        run = run_id(resource.metadata.name, resource.metadata.uid)
    except ValueError as error:
        raise BadInput(f"the run cannot be submitted: {error}") from error
    attempt = secrets.token_hex(8)
    try:
        model = await _of_file(bus.bulk, source, run, attempt)
    except BaseException:  # Ctrl-C included: nobody has asked for the run, so nobody will need what is stored
        await _forget(bus.bulk, run, attempt)
        raise
    try:
        return await runs.submit(bus, resource, now, model)
    except (BadInput, BusFull):  # after any other error the run may have been asked for, and then it needs the model
        await _forget(bus.bulk, run, attempt)
        raise


async def _forget(bulk: Bulk, run: str, attempt: str) -> None:
    with suppress(BusError):  # what is stored in vain takes room; why it is in vain is being said already
        await bulk.purge(given_piece(run, attempt, ">"))


async def _of_run(bus: Bus, source: str) -> Model:
    """The model of RUN or RUN@N."""
    text, at, number = source.partition("@")
    if at and not number.isdecimal():
        raise BadInput(f"{source!r} names no model; write RUN, or RUN@N for the model after its training round N")
    run = await runs.find(bus, text)
    end = await runs.end_of(bus, run)
    if end is None:
        raise BadInput(f"{run} goes on, and its models may be discarded at any time; a run starts from one that has ended")
    if at:
        return await checkpoint(bus, run, int(number))
    if isinstance(end, Completed):
        model = end.model
    else:
        shown = (await runs.view_of(bus, run)).model
        if shown is None:
            raise BadInput(f"{run} has ended without a model")
        model = shown
    if f"{model.layout.subject}.0" not in await bus.bulk.stored(layouts_of_models(run)):
        raise BadInput(f"the model of {run} is not stored any more; --from takes a kept file, too")
    return model


async def _of_file(bulk: Bulk, source: str, run: str, attempt: str) -> Model:
    """Store a file's model under the run. Raises BadInput when the file is no model, or not the one that its manifest is about."""
    folder, name = await asyncio.to_thread(locate, source)
    name = name or MODEL_FILE
    place = f"{folder.where}/{name}"
    manifest = await asyncio.to_thread(recorded, folder, name)
    file = _File(folder.read(name))
    try:
        header = await asyncio.to_thread(file.header)
        layout = parse_header(header)
        stored = [await bulk.write(given_piece(run, attempt, "layout"), memoryview(header), CHUNK_BYTES)]
        for number, (begin, end) in enumerate(cut(layout.bytes, _shard_bytes(layout))):
            data = await asyncio.to_thread(file.take, end - begin)
            stored.append(await bulk.write(given_piece(run, attempt, number), memoryview(data), CHUNK_BYTES))
        await asyncio.to_thread(file.end)
    except FileNotFoundError as error:
        raise BadInput(f"{place}: there is no such file") from error
    except BadLayout as error:
        raise BadInput(f"{place} is no safetensors file whose tensors a run could train: {error}") from error
    if manifest is not None and manifest.file_digest != file.hashing.digest:
        raise Corrupt(f"{place} is not the file that its manifest is about; keep the model of {manifest.origin.run} once more")
    shards = tuple(stored[1:])
    return Model(run=run, round=0, bytes=layout.bytes, layout=stored[0], shards=shards, digest=model_digest(stored[0], shards))


def _shard_bytes(layout: Layout) -> int:
    """So many that there are not too many of them, and a multiple of what must not be cut."""
    least = -(-layout.bytes // SHARDS_MAX)
    return max(SHARD_BYTES, -(-least // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)


class _File:
    """A safetensors file that comes block by block, and the digest of what came. Blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = bytearray()
        self.hashing = Hashing()

    def header(self) -> bytes:
        size = int.from_bytes(begin := self.take(8), "little")
        if size > HEADER_BYTES_MAX:
            raise BadLayout(f"its header would have {size} bytes")
        return begin + self.take(size)

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            block = next(self._blocks, b"")
            if not block:
                raise BadLayout("it ends before its last tensor does")
            self._held += block
        data = bytes(self._held[:size])
        del self._held[:size]
        self.hashing.update(data)
        return data

    def end(self) -> None:
        if self._held or next(self._blocks, b""):
            raise BadLayout("it goes on after its last tensor")
