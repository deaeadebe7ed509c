"""A run is submitted with a model to start from: another run's, or a file's, which then is on the bus before the run is."""

from pathlib import Path

import numpy as np
import pytest
from federation_story import learning, model_bytes
from kept_story import NOON, RUN, completed, file_of
from safetensors.numpy import save

from fedplane.cli.keeping import keep
from fedplane.cli.manifest import origin
from fedplane.cli.starting import submit
from fedplane.runtime.errors import BadInput, Corrupt
from fedplane.runtime.memory import MemoryBus
from fedplane.runtime.ports import Recorded, Viewed
from fedplane.schemas.facts import Aggregated, Completed, Fact, Submitted
from fedplane.schemas.models import Model
from fedplane.status.phases import Phases

NEXT = "next-01234567"


async def older(bus: MemoryBus, upto: int | None = None) -> list[Fact]:
    """A run on the bus, with its view."""
    facts, core = (await completed(bus))[:upto], Phases(10)
    state = core.initial()
    for fact in facts:
        stated = await bus.log.state(fact)
        assert stated.record is not None
        state = core.evolve(state, Recorded(fact, stated.record.sequence))
    view = state[RUN]
    await bus.views.put(Viewed(RUN, view.model_dump_json().encode(), view.sequence))
    return facts


async def given(bus: MemoryBus, source: str, **server: str) -> Model | None:
    resource = learning("next", server={"rounds": 2, "minAvailableClients": 3, **server})
    run, _ = await submit(bus, resource, source, NOON)
    held = await bus.log.read(Submitted.pattern(run=run))
    assert held is not None
    assert isinstance(held.fact, Submitted)
    assert run == NEXT
    return held.fact.model


async def test_without_a_source_a_run_starts_with_a_new_model() -> None:
    assert await given(MemoryBus(), "") is None


@pytest.mark.parametrize(("source", "round_"), [(RUN, 2), ("tiny", 2), ("tiny-0", 2), (f"{RUN}@1", 1), ("tiny@0", 0)])
async def test_a_word_is_an_ended_run_and_its_model_is_named_and_not_copied(source: str, round_: int) -> None:
    bus = MemoryBus()
    facts = await older(bus)
    before = dict(bus.bulk.chunks)

    model = await given(bus, source)

    assert model == next(fact.model for fact in facts if isinstance(fact, Aggregated) and fact.round == round_)
    assert bus.bulk.chunks == before


async def test_a_resource_may_name_the_run_and_the_command_line_may_overrule_it() -> None:
    bus = MemoryBus()
    facts = await older(bus)
    end = facts[-1]
    assert isinstance(end, Completed)

    assert await given(bus, "", initialModel=RUN) == end.model
    other = MemoryBus()
    await older(other)
    overruled = await given(other, f"{RUN}@0", initialModel="nobody-1")
    assert overruled is not None
    assert overruled.round == 0


async def test_a_run_that_cannot_be_started_from_is_bad_input_and_nothing_is_submitted() -> None:
    bus = MemoryBus()
    await older(bus, -1)

    for source, why in [(RUN, "goes on, and its models may be discarded"), ("nobody", "no run 'nobody'"), (f"{RUN}@x", "RUN@N")]:
        with pytest.raises(BadInput, match=why):
            await given(bus, source)
    gone = MemoryBus()
    await older(gone)
    gone.bulk.chunks.clear()
    with pytest.raises(BadInput, match="is not stored any more"):
        await given(gone, RUN)
    with pytest.raises(BadInput, match="of training round 1 of tiny-01234567 is not stored"):
        await given(gone, f"{RUN}@1")
    assert await bus.log.read(Submitted.pattern(run=NEXT)) is None


@pytest.mark.parametrize("kept", [True, False])
async def test_a_files_bytes_are_on_the_bus_under_the_new_run(tmp_path: Path, kept: bool) -> None:
    bus, elsewhere = MemoryBus(), MemoryBus()
    if kept:
        await keep(elsewhere.bulk, *origin(await completed(elsewhere), None), str(tmp_path))
    else:
        (tmp_path / "model.safetensors").write_bytes(file_of(2))

    model = await given(bus, str(tmp_path))

    assert model is not None
    assert await model_bytes(bus, model) == file_of(2)
    assert {model.run, *(subject.split(".")[3] for subject in bus.bulk.chunks)} == {NEXT}


async def test_a_large_file_is_cut_into_shards_that_need_little_memory(tmp_path: Path) -> None:
    bus = MemoryBus()
    (tmp_path / "large.safetensors").write_bytes(save({"w": np.zeros(5_000_000, dtype=np.float64)}))

    model = await given(bus, str(tmp_path / "large.safetensors"))

    assert model is not None
    assert ([piece.bytes for piece in model.shards], model.bytes) == ([16_000_000, 16_000_000, 8_000_000], 40_000_000)


BAD_FILES = {
    "nothing": (b"", "ends before its last tensor"),
    "text": (b"this is no model, it is a sentence", "its header would have"),
    "cut short": (file_of(1)[:-1], "ends before its last tensor"),
    "with more": (file_of(1) + b"!", "goes on after its last tensor"),
    "no layout": ((2).to_bytes(8, "little") + b"[]", "no JSON object"),
}


@pytest.mark.parametrize(("data", "why"), BAD_FILES.values(), ids=BAD_FILES)
async def test_a_file_that_is_no_model_is_bad_input_and_leaves_nothing_on_the_bus(tmp_path: Path, data: bytes, why: str) -> None:
    bus = MemoryBus()
    (tmp_path / "model.safetensors").write_bytes(data)

    with pytest.raises(BadInput, match=why):
        await given(bus, str(tmp_path))

    assert (bus.bulk.chunks, bus.log.records) == ({}, [])


async def test_a_file_that_is_not_its_manifests_is_refused_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    bus, elsewhere = MemoryBus(), MemoryBus()
    await keep(elsewhere.bulk, *origin(await completed(elsewhere), None), str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(file_of(5))

    with pytest.raises(Corrupt, match="not the file that its manifest is about"):
        await given(bus, str(tmp_path))
    with pytest.raises(BadInput, match="there is no such file"):
        await given(bus, str(tmp_path / "gone.safetensors"))

    assert bus.bulk.chunks == {}


async def test_a_request_that_is_refused_leaves_only_what_the_first_one_stored(tmp_path: Path) -> None:
    bus = MemoryBus()
    (tmp_path / "model.safetensors").write_bytes(file_of(1))
    await given(bus, str(tmp_path))
    before = dict(bus.bulk.chunks)

    with pytest.raises(BadInput, match="was submitted before"):
        await given(bus, str(tmp_path))

    assert bus.bulk.chunks == before
