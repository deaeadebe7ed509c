"""How invitations are answered, by an app that works and by one that does not."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collaborator_story import (
    MODEL,
    SAID,
    TRAINED,
    Apps,
    Work,
    answer_to,
    asked_once,
    bytes_of,
    collaborating,
    held,
    invited,
    model_on,
    train,
)
from safetensors.numpy import load, save

from fedplane.collaborator import training as training_module
from fedplane.collaborator import transfers
from fedplane.collaborator.apps import Answer
from fedplane.runtime.errors import AppFailed, Unreachable
from fedplane.runtime.memory import MemoryBulk, MemoryBus
from fedplane.schemas.facts import Contributed, Declined, Evaluated
from fedplane.schemas.models import Piece, Task


async def test_an_invitation_to_train_is_answered_by_the_apps_update_byte_for_byte(tmp_path: Path):
    bus = MemoryBus()
    invitation = invited(model=await model_on(bus))

    answer = await asked_once(bus, invitation, Apps(train), tmp_path)

    assert isinstance(answer, Contributed)
    assert (answer.weight, answer.metrics, [shard.bytes for shard in answer.shards]) == (10.0, {"loss": 0.5}, [16, 16])
    assert [piece.subject.rpartition(".")[0] for piece in (answer.layout, *answer.shards)] == [
        f"bulk.fed.v1.r1.1.update.c1.{answer.attempt}"
    ] * 3
    assert await bytes_of(bus, answer.layout, *answer.shards) == TRAINED


async def test_the_app_finds_the_model_and_the_invitation_and_its_files_are_removed_afterwards(tmp_path: Path):
    bus, found = MemoryBus(), {}

    async def look(directory: Path) -> Answer:
        found.update(held(directory))
        return await train(directory)

    await asked_once(bus, invited(model=await model_on(bus)), Apps(look), tmp_path)

    assert load(found["model.safetensors"])["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert json.loads(found["invitation.json"]) == {
        "task": "train", "run": "r1", "round": 1, "training_round": 1, "cluster": "c1", "position": 1, "clusters": 3, "data": "digits",
        "configuration": {"lr": 0.1}, "run_configuration": {"epochs": 2},
    }  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "r1").iterdir()) == ["app", "model"]


async def test_what_is_appended_is_sent_as_it_is_and_the_app_is_told(tmp_path: Path):
    bus, found = MemoryBus(), {}
    trees = save({"trees": np.arange(9, dtype=np.uint8)})

    async def grow(directory: Path) -> Answer:
        found.update(json.loads((directory / "invitation.json").read_text()))
        (directory / "update.safetensors").write_bytes(trees)
        return SAID

    model = await model_on(bus)
    answers = [
        await asked_once(bus, invited(number, model=model, appends=appends), Apps(grow), tmp_path)
        for number, appends in ((1, False), (2, True))
    ]

    assert isinstance(answers[0], Declined) and answers[0].reason == "wrong-layout"
    assert isinstance(answers[1], Contributed)
    assert await bytes_of(bus, answers[1].layout, *answers[1].shards) == trees
    assert found["appends"] is True


async def test_an_initialization_has_no_model_and_carries_the_apps_configuration(tmp_path: Path):
    async def initialize(directory: Path) -> Answer:
        assert list(held(directory)) == ["invitation.json"]
        await train(directory)
        return Answer(weight=1.0, metrics={}, configuration={"lr": 0.3})

    answer = await asked_once(MemoryBus(), invited(0, Task.INITIALIZE), Apps(initialize), tmp_path)

    assert isinstance(answer, Contributed) and answer.configuration == {"lr": 0.3}


async def test_an_evaluation_is_answered_by_its_metrics(tmp_path: Path):
    async def evaluate(directory: Path) -> Answer:
        return Answer(weight=20.0, metrics={"accuracy": 0.9})

    bus = MemoryBus()
    answer = await asked_once(bus, invited(2, Task.EVALUATE, await model_on(bus)), Apps(evaluate), tmp_path)

    assert isinstance(answer, Evaluated) and (answer.weight, answer.metrics) == (20.0, {"accuracy": 0.9})


async def test_a_model_is_fetched_once_for_all_rounds_that_use_it(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    model = await model_on(bus)

    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(invited(1, model=model))
        await answer_to(bus, invited(1))
        await bus.bulk.purge("bulk.>")
        await bus.log.state(invited(2, Task.EVALUATE, model))
        answer = await answer_to(bus, invited(2))

    assert isinstance(answer, Evaluated)
    assert apps.asked == [["round-1", "round-2"]]


async def test_an_app_that_crashes_declines_with_its_last_words_and_is_asked_again_in_the_next_round(tmp_path: Path):
    async def crash_at_first(directory: Path) -> Answer:
        if directory.name == "round-1":
            raise AppFailed("crashed", "the app ended with status 139", "x" * 10_000 + "\udc80 last words")
        return await train(directory)

    bus, apps = MemoryBus(), Apps(crash_at_first)
    model = await model_on(bus)
    async with collaborating(bus, apps, tmp_path):
        await bus.log.state(invited(1, model=model))
        declined = await answer_to(bus, invited(1))
        await bus.log.state(invited(2, model=model))
        answer = await answer_to(bus, invited(2))

    assert isinstance(declined, Declined) and isinstance(answer, Contributed)
    assert (declined.reason, declined.message, declined.detail[-13:]) == ("crashed", "the app ended with status 139", "x? last words")
    assert len(declined.detail) == training_module.TEXT_CHARACTERS_MAX
    assert [(app.asked, app.closed) for app in apps.started] == [(["round-1", "round-2"], True)]


async def leave_nothing(directory: Path) -> Answer:
    return SAID


async def configure_with_no_text(directory: Path) -> Answer:
    await train(directory)
    return Answer(weight=1.0, metrics={}, configuration={"word": "half a character: \ud800"})


@pytest.mark.parametrize(
    ("work", "changed", "settings", "reason", "said"),
    [
        (leave_nothing, {}, {}, "no-update", "without leaving update.safetensors"),
        (train, {}, {"update_bytes_max": 10}, "update-too-large", "at most 10"),
        (configure_with_no_text, {}, {}, "bad-answer", "cannot be written"),
        (train, {"app": ""}, {}, "bad-input", "set FEDPLANE_APP"),
        (train, {"model": None}, {}, "bad-input", "asks to train, and names no model"),
        (train, {"shard_bytes": 12}, {}, "bad-input", "use a multiple of 8"),
        (train, {"chunk_bytes": 0}, {}, "bad-input", "asks for chunks of 0 bytes"),
    ],
)
async def test_what_cannot_be_answered_is_declined_with_what_to_do(
    work: Work, changed: dict[str, Any], settings: dict[str, Any], reason: str, said: str, tmp_path: Path
):
    bus = MemoryBus()
    invitation = invited(**{"model": await model_on(bus), **changed})

    answer = await asked_once(bus, invitation, Apps(work), tmp_path, **settings)

    assert isinstance(answer, Declined) and answer.reason == reason
    assert said in answer.message


async def test_a_full_bus_declines_and_says_what_to_do(tmp_path: Path):
    bus = MemoryBus()
    model = await model_on(bus)
    bus.bulk.bytes_max = len(MODEL) + 20

    answer = await asked_once(bus, invited(model=model), Apps(train), tmp_path)

    assert isinstance(answer, Declined) and answer.reason == "bus-full"
    assert "give its server more storage" in answer.message


async def test_a_model_that_is_gone_declines_before_the_app_is_asked(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)
    model = await model_on(bus)
    await bus.bulk.purge(model.shards[1].subject + ".>")

    answer = await asked_once(bus, invited(model=model), apps, tmp_path)

    assert isinstance(answer, Declined) and answer.reason == "model-unreadable"
    assert apps.asked == [[]]


async def test_a_work_directory_that_cannot_be_used_declines(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")

    answer = await asked_once(MemoryBus(), invited(0, Task.INITIALIZE), Apps(train), tmp_path / "file")

    assert isinstance(answer, Declined) and answer.reason == "disk-failed"


async def test_this_clusters_own_app_goes_before_the_one_that_the_run_names(tmp_path: Path):
    bus, apps = MemoryBus(), Apps(train)

    await asked_once(bus, invited(model=await model_on(bus)), apps, tmp_path, app=Path("/image/app"))

    assert [(app.framework, app.app) for app in apps.started] == [("flower", Path("/image/app"))]


class FalteringBulk(MemoryBulk):
    """Answers nothing the first time that anything is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: set[str] = set()

    async def write(self, subject: str, data: memoryview, chunk_bytes: int) -> Piece:
        self._falter("write")
        return await super().write(subject, data, chunk_bytes)

    async def read(self, piece: Piece) -> AsyncIterator[tuple[int, memoryview]]:
        async for offset, chunk in super().read(piece):
            yield offset, chunk
            self._falter(f"read {piece.subject}")

    def _falter(self, asked: str) -> None:
        if asked not in self.heard:
            self.heard.add(asked)
            raise Unreachable("no server answers")


async def test_a_bus_that_is_away_for_a_moment_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfers, "RETRY_SECONDS", 0.0)
    model = await model_on(full := MemoryBus())
    bus = MemoryBus(bulk=FalteringBulk())
    bus.bulk.chunks.update(full.bulk.chunks)

    answer = await asked_once(bus, invited(model=model), Apps(train), tmp_path)

    assert isinstance(answer, Contributed)
    assert await bytes_of(full, *(model.layout, *model.shards)) == MODEL
    assert bus.bulk.heard == {"write", *(f"read {piece.subject}" for piece in (model.layout, *model.shards))}
