"""A model takes the last one's place, and what the two have in common is not fetched again."""

from pathlib import Path

import pytest

from fedplane.collaborator.fetching import fetch
from fedplane.runtime.errors import Corrupt
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.models import Model, Piece, model_digest


class Watched(MemoryBulk):
    """It knows which pieces were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_of: list[str] = []

    def read(self, piece: Piece):
        self.read_of.append(piece.subject)
        return super().read(piece)


async def stored(bulk: MemoryBulk, name: str, layout: bytes, *shards: bytes) -> Model:
    pieces = [await bulk.write(f"{name}.{place}", memoryview(data), 4) for place, data in enumerate((layout, *shards))]
    size = sum(map(len, shards))
    return Model(run="r", round=1, bytes=size, layout=pieces[0], shards=pieces[1:], digest=model_digest(pieces[0], pieces[1:]))


def models_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.safetensors"))


@pytest.fixture
def bulk() -> Watched:
    return Watched()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


async def test_a_model_that_is_there_is_not_fetched_again(bulk: Watched, folder: Path):
    model = await stored(bulk, "m", b"head", b"one two three", b"four")

    first, second = await fetch(bulk, model, folder), await fetch(bulk, model, folder)

    assert (first, first.read_bytes(), first.stat().st_mode & 0o777) == (second, b"headone two threefour", 0o444)
    assert bulk.read_of == ["m.0", "m.1", "m.2"]


async def test_another_model_takes_its_place_and_nothing_else_stays(bulk: Watched, folder: Path):
    await fetch(bulk, await stored(bulk, "m", b"head", b"one"), folder)

    after = await fetch(bulk, await stored(bulk, "n", b"tail", b"two"), folder)

    assert (models_in(folder), after.read_bytes()) == ([after], b"tailtwo")


async def test_shards_that_the_last_model_had_are_copied_wherever_they_were(bulk: Watched, folder: Path):
    await fetch(bulk, await stored(bulk, "m", b"a longer head", b"one two three", b"four"), folder)
    bulk.read_of.clear()

    path = await fetch(bulk, await stored(bulk, "n", b"head", b"four", b"five", b"one two three", b"four"), folder)

    assert path.read_bytes() == b"headfourfiveone two threefour"
    assert bulk.read_of == ["n.0", "n.2"]


@pytest.mark.parametrize("left", ["{", "shorter"])
async def test_whoever_was_killed_or_damaged_meanwhile_fetches_everything(left: str, bulk: Watched, folder: Path):
    before = await fetch(bulk, await stored(bulk, "m", b"head", b"one"), folder)
    model = await stored(bulk, "n", b"tail", b"one")
    if left == "shorter":
        before.chmod(0o600)
        before.write_bytes(b"head")
        with pytest.raises(Corrupt, match="shorter since it was fetched"):
            await fetch(bulk, model, folder)
    else:
        (folder / "shards.json").write_text(left)
        (folder / "part").write_bytes(b"half")
        (folder / "part").chmod(0o444)
    bulk.read_of.clear()

    path = await fetch(bulk, model, folder)

    assert (path.read_bytes(), bulk.read_of) == (b"tailone", ["n.0", "n.1"])
