"""Which updates may be sent, what is said of the others, and how they are stored."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from fedplane.collaborator.transfers import Stored, Update, check_update, store, upload
from fedplane.runtime.errors import AppFailed, BusFull
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.facts import Invited
from fedplane.schemas.models import Piece, Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
W = np.arange(4, dtype=np.float32)
GOOD = save({"w": W, "b": np.zeros(1, np.float32)})
BYTES_MAX = 1000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(GOOD)
    return tmp_path / "model.safetensors"


def test_an_update_with_the_models_layout_may_be_sent(model: Path):
    assert check_update(model, model, len(GOOD)) == Update(model, GOOD[:-20], 20)


def test_an_initial_model_may_have_any_layout(model: Path):
    assert check_update(model, None, len(GOOD)).bytes == 20


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (bytes(1001), "update-too-large", "has 1001 bytes, and this cluster sends at most 1000"),
        (GOOD[:-1], "bad-update", f"describes {len(GOOD)} bytes, but the file has {len(GOOD) - 1}"),
        (b"", "bad-update", "does not state its own length"),
        (b"\xff" * 20, "bad-update", "does not state its own length"),
        ((2).to_bytes(8, "little") + b"[]", "bad-update", "no JSON object"),
        (save({"w": W}), "wrong-layout", "has F32 tensor 'w' of shape [4] where the model has F32 tensor 'b' of shape [1]"),
        (save({"w": W[:3], "b": np.zeros(1, np.float32)}), "wrong-layout", "of shape [3] where the model has F32 tensor 'w' of shape [4]"),
        (save({"w": W.astype(np.float16), "b": np.zeros(1, np.float32)}), "wrong-layout", "has F16 tensor 'w'"),
        (save({"w": np.zeros(0, np.float32), "b": np.zeros(1, np.float32), "z": W[:0]}), "wrong-layout", "of shape [0]"),
        (save({"w": W, "b": np.zeros(1, np.float32)}, {"": ""}), "wrong-layout", "another order or other metadata"),
    ],
)  # fmt: skip
def test_an_update_that_cannot_be_folded_says_what_is_wrong_with_it(content: bytes, reason: str, said: str, model: Path, tmp_path: Path):
    update = tmp_path / "update.safetensors"
    update.write_bytes(content)

    with pytest.raises(AppFailed) as failure:
        check_update(update, model, BYTES_MAX)

    assert failure.value.reason == reason
    assert said in str(failure.value)


def test_a_missing_update_is_the_apps_failure(tmp_path: Path):
    with pytest.raises(AppFailed, match=r"without leaving update\.safetensors"):
        check_update(tmp_path / "update.safetensors", None, 100)


async def stored(bulk: MemoryBulk, update: Path, round_: int) -> Stored:
    invitation = Invited(
        run="r1", round=round_, at=NOW, cluster="c1", task=Task.TRAIN, training_round=1, framework="other", app="", data="",
        configuration={}, run_configuration={}, deadline=NOW, shard_bytes=8, chunk_bytes=8,
    )  # fmt: skip
    return await upload(bulk, check_update(update, None, BYTES_MAX), invitation)


async def test_attempts_to_upload_never_mix(model: Path):
    bulk = MemoryBulk()

    first, second = await stored(bulk, model, 1), await stored(bulk, model, 1)

    assert not {piece.subject for piece in (first.layout, *first.shards)} & {piece.subject for piece in (second.layout, *second.shards)}


class Counting(MemoryBulk):
    """It has room for some pieces, and knows how many were on their way at a time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.under_way = self.most = 0

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        self.room -= 1
        if self.room < 0:
            raise BusFull("no room")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().write(subject, data, chunk_bytes)


async def test_two_shards_are_on_their_way_at_a_time(model: Path):
    bulk = Counting(room=4)

    pieces = await stored(bulk, model, 1)

    assert bulk.most == 2
    assert [piece.subject.rpartition(".")[2] for piece in pieces.shards] == ["0", "1", "2"]


async def test_a_shard_that_finds_no_room_is_the_end_of_the_upload(model: Path):
    with pytest.raises(BusFull, match="no room"):
        await stored(Counting(room=2), model, 1)


async def test_a_shard_that_is_stored_already_is_not_stored_again(model: Path):
    bulk = MemoryBulk()
    before = (await stored(bulk, model, 1)).shards[1]
    room = Counting(room=3)

    layout, shards = await store(room, check_update(model, None, BYTES_MAX), "at.{}".format, [(0, 8), (8, 16), (16, 20)], 8, {1: before})

    assert [layout.subject, *(piece.subject for piece in shards)] == ["at.layout", "at.0", before.subject, "at.2"]
