"""Whatever its tensors and however it is cut, an update arrives as the bytes that the app left, and a model as those that were stored."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fedplane.collaborator.fetching import fetch
from fedplane.collaborator.transfers import check_update, upload
from fedplane.runtime.memory import MemoryBulk
from fedplane.schemas.facts import Invited
from fedplane.schemas.models import Model, Task, model_digest

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TENSORS = st.dictionaries(
    st.text("abc", min_size=1), st.tuples(st.sampled_from(["f8", "f4", "i2", "u1", "?"]), st.integers(0, 40)), max_size=5
)


@given(TENSORS, st.integers(1, 12), st.integers(1, 50))
def test_what_is_uploaded_is_fetched_unchanged(tensors: dict[str, tuple[str, int]], words: int, chunk_bytes: int):
    content = save({name: np.arange(size).astype(dtype) for name, (dtype, size) in tensors.items()})

    async def there_and_back(folder: Path) -> bytes:
        (folder / "update").write_bytes(content)
        bulk, update = MemoryBulk(), check_update(folder / "update", None, len(content))
        stored = await upload(bulk, update, invitation(words * 8, chunk_bytes))
        digest = model_digest(stored.layout, stored.shards)
        model = Model(run="r1", round=0, bytes=update.bytes, layout=stored.layout, shards=stored.shards, digest=digest)
        return (await fetch(bulk, model, folder / "model")).read_bytes()

    with TemporaryDirectory() as folder:
        assert asyncio.run(there_and_back(Path(folder))) == content


def invitation(shard_bytes: int, chunk_bytes: int) -> Invited:
    return Invited(
        run="r1", round=0, at=NOW, cluster="c1", task=Task.INITIALIZE, training_round=0, framework="other", app="", data="",
        configuration={}, run_configuration={}, deadline=NOW, shard_bytes=shard_bytes, chunk_bytes=chunk_bytes,
    )  # fmt: skip
