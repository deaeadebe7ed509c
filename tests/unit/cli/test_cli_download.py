"""A model becomes a file whole, or not at all."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from fedplane.cli.download import save as download
from fedplane.cli.download import size
from fedplane.runtime.errors import BadInput, Corrupt, Unavailable
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.models import Model, model_digest

TENSORS = {"weight": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(4, dtype=np.float32)}


async def stored(bulk: MemoryBulk, cut_at: int = 32, lost_bytes: int = 0) -> Model:
    """The tensors as a model on the bus: a layout and two shards in chunks of 16 bytes."""
    whole = save(TENSORS)
    begin = 8 + int.from_bytes(whole[:8], "little")
    flat = memoryview(whole)[begin : len(whole) - lost_bytes]
    layout = await bulk.write("model.layout", memoryview(whole)[:begin], 16)
    shards = (await bulk.write("model.0", flat[:cut_at], 16), await bulk.write("model.1", flat[cut_at:], 16))
    return Model(run="mnist-1", round=2, bytes=len(flat), layout=layout, shards=shards, digest=model_digest(layout, shards))


def files_in(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


async def test_a_downloaded_model_opens_in_every_safetensors_reader(tmp_path: Path) -> None:
    bulk, heard = MemoryBulk(), list[int]()
    model = await stored(bulk)

    await download(bulk, model, tmp_path / "model.safetensors", heard.append)

    loaded = load_file(tmp_path / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {name: tensor.tolist() for name, tensor in TENSORS.items()}
    assert sum(heard) == size(model) == (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("damage", ["a bit", "a chunk", "the layout", "the digest", "the size"])
async def test_a_damaged_model_leaves_the_old_file_and_nothing_else(tmp_path: Path, damage: str) -> None:
    bulk = MemoryBulk()
    model = await stored(bulk, lost_bytes=4 if damage == "the size" else 0)
    if damage == "a bit":
        bulk.chunks["model.1.0"] = bytes(16)
    elif damage == "a chunk":
        del bulk.chunks["model.1.0"]
    elif damage == "the layout":
        layout = await bulk.write("model.layout", memoryview(b"no header"), 16)
        model = model.model_copy(update={"layout": layout, "digest": model_digest(layout, model.shards)})
    elif damage == "the digest":
        model = model.model_copy(update={"digest": "blake3:" + "0" * 64})
    path = tmp_path / "model.safetensors"
    path.write_text("old")

    with pytest.raises(Corrupt):
        await download(bulk, model, path)

    assert files_in(tmp_path) == {"model.safetensors": b"old"}


async def test_a_file_that_cannot_be_is_bad_input(tmp_path: Path) -> None:
    bulk = MemoryBulk()
    model = await stored(bulk)
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "gone" / "model", tmp_path / "folder"):
        with pytest.raises(BadInput, match="cannot be written"):
            await download(bulk, model, path)


async def test_a_full_disk_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    bulk = MemoryBulk()
    model = await stored(bulk)

    with pytest.raises(Unavailable, match="could not be written: No space left on device; free space"):
        await download(bulk, model, tmp_path / "model")

    assert files_in(tmp_path) == {}
