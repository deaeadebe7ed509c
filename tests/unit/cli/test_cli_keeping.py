"""A model is kept whole, with a manifest that says what it is, or what was there stays."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kept_story import NOON, RUN, completed, file_of, stored

from fedplane.cli.folders import DiskFolder, locate
from fedplane.cli.keeping import Outcome, keep, recorded
from fedplane.cli.manifest import origin
from fedplane.runtime.errors import BadInput, Corrupt, Unavailable
from fedplane.runtime.memory import MemoryBus
from fedplane.schemas.digests import digest
from fedplane.schemas.facts import Aggregated, Cancelled, Completed
from fedplane.schemas.models import Task


def files_in(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize(
    ("address", "folder", "name"),
    [
        ("models", "models", ""),
        ("models/", "models", ""),
        (".", ".", ""),
        ("models/.hidden", "models/.hidden", ""),
        ("models/mnist.safetensors", "models", "mnist.safetensors"),
        ("file:///models/v1.2/", "/models/v1.2", ""),
        ("s3://my.bucket", "s3://my.bucket", ""),
        ("s3://bucket/models", "s3://bucket/models", ""),
        ("s3://bucket/models/mnist.safetensors", "s3://bucket/models", "mnist.safetensors"),
    ],
)
def test_an_address_that_ends_in_a_name_with_a_dot_is_a_file_and_any_other_a_folder(address: str, folder: str, name: str) -> None:
    found, found_name = locate(address)

    assert (found.where, found_name) == (folder, name)


@pytest.mark.parametrize(("address", "why"), [("ftp://there/model", "begins with s3://"), ("s3://", "names no bucket")])
def test_an_address_of_no_place_is_bad_input(address: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        locate(address)


async def test_a_kept_model_is_a_safetensors_file_and_a_manifest_that_names_it(tmp_path: Path) -> None:
    bus = MemoryBus()
    model, source = origin(await completed(bus), None)

    outcome = await keep(bus.bulk, model, source, str(tmp_path / "kept"))

    found = files_in(tmp_path / "kept")
    assert outcome == (Outcome.KEPT, str(tmp_path / "kept" / "model.safetensors"))
    assert (sorted(found), found["model.safetensors"]) == (["manifest.json", "model.safetensors"], file_of(2))
    assert json.loads(found["manifest.json"]) == {
        "version": 1,
        "file": "model.safetensors",
        "bytes": len(file_of(2)),
        "file_digest": digest(file_of(2)),
        "origin": {
            "run": RUN, "namespace": "default", "name": "tiny", "framework": "flower", "strategy": {"name": "fedavg", "parameters": {}},
            "round": 2, "training_round": 2, "training_rounds": 2, "members": ["a", "b"], "metrics": {"accuracy": 0.75},
            "digest": model.digest, "layout_digest": model.layout.digest,
            "submitted_at": "2026-03-02T12:00:00Z", "ended_at": "2026-03-02T13:00:00Z",
        },
    }  # fmt: skip


async def test_a_checkpoint_is_kept_with_its_own_metrics_beside_another_model(tmp_path: Path) -> None:
    bus = MemoryBus()
    facts = await completed(bus)
    await keep(bus.bulk, *origin(facts, None), str(tmp_path))

    model, source = origin(facts, 1)
    await keep(bus.bulk, model, source, str(tmp_path / "first.safetensors"))

    assert sorted(files_in(tmp_path)) == ["first.manifest.json", "first.safetensors", "manifest.json", "model.safetensors"]
    assert ((tmp_path / "first.safetensors").read_bytes(), source.metrics) == (file_of(1), {"loss": 0.5})


def inodes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in directory.iterdir()}


async def test_what_is_kept_already_is_not_written_again_unless_it_is_damaged(tmp_path: Path) -> None:
    bus = MemoryBus()
    model, source = origin(await completed(bus), None)
    await keep(bus.bulk, model, source, str(tmp_path))
    before = inodes(tmp_path)

    again, _ = await keep(bus.bulk, model, source, str(tmp_path))
    same = inodes(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"half a mod")
    mended, _ = await keep(bus.bulk, model, source, str(tmp_path))

    assert (again, same, mended) == (Outcome.THERE, True, Outcome.KEPT)
    assert (tmp_path / "model.safetensors").read_bytes() == file_of(2)


@pytest.mark.parametrize(("hours", "outcome", "last"), [(0, Outcome.LATER, RUN), (2, Outcome.KEPT, "next-1")])
async def test_a_later_runs_model_stays_if_that_is_wanted(tmp_path: Path, hours: int, outcome: Outcome, last: str) -> None:
    bus = MemoryBus()
    await keep(bus.bulk, *origin(await completed(bus), None), str(tmp_path))

    said, _ = await keep(bus.bulk, *origin(await completed(bus, "next-1", hours), None), str(tmp_path), only_newer=True)

    kept = recorded(DiskFolder(tmp_path), "model.safetensors")
    assert kept is not None
    assert (said, kept.origin.run) == (outcome, last)


async def test_a_model_that_is_damaged_on_the_bus_leaves_the_old_one(tmp_path: Path) -> None:
    bus = MemoryBus()
    await keep(bus.bulk, *origin(await completed(bus), None), str(tmp_path))
    before = files_in(tmp_path)
    model, source = origin(await completed(bus, "next-1", 2), None)
    bus.bulk.chunks[f"{model.shards[1].subject}.0"] = bytes(16)

    with pytest.raises(Corrupt):
        await keep(bus.bulk, model, source, str(tmp_path))

    assert files_in(tmp_path) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from fedplane.cli.folders import DiskFolder
upload = DiskFolder(Path(sys.argv[1])).begin("model.safetensors")
upload.write(b"new" * 1_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_command_leaves_the_old_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"old")

    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)

    found = files_in(tmp_path)
    assert (ended.returncode, found.pop("model.safetensors")) == (-signal.SIGKILL, b"old")
    assert [name.startswith(".model.safetensors.") for name in found] == [True], "what it had written stays hidden"


async def test_a_disk_that_loses_bytes_is_found_out_and_gets_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = MemoryBus()
    model, source = origin(await completed(bus), None)
    monkeypatch.setattr("os.fsync", lambda descriptor: open(descriptor, "ab", closefd=False).write(b"!"))  # noqa: SIM115

    with pytest.raises(Corrupt, match="other bytes were read back"):
        await keep(bus.bulk, model, source, str(tmp_path))

    assert sorted(files_in(tmp_path)) == ["model.safetensors"]


async def test_a_full_disk_and_a_folder_that_is_a_file_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    bus = MemoryBus()
    model, source = origin(await completed(bus), None)
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(BadInput, match="cannot be used"):
        await keep(bus.bulk, model, source, str(tmp_path / "taken"))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match="No space left on device"):
        await keep(bus.bulk, model, source, str(tmp_path / "full"))

    assert files_in(tmp_path / "full") == {}


async def test_only_an_ended_runs_model_is_kept() -> None:
    facts = await completed(MemoryBus())
    cancelled = [*facts[:-1], Cancelled(run=RUN, at=NOON)]

    with pytest.raises(BadInput, match="the run goes on"):
        origin(facts[:-1], 1)
    with pytest.raises(BadInput, match="has not completed; name a training round"):
        origin(cancelled, None)
    with pytest.raises(BadInput, match="no model of training round 7; there are 0, 1, 2"):
        origin(facts, 7)
    assert origin(cancelled, 1)[1].round == 1


async def test_of_two_rounds_that_could_be_meant_the_best_ones_model_is_the_runs() -> None:
    facts = await completed(MemoryBus())
    end, best = facts[-1], facts[2]
    assert isinstance(end, Completed)
    assert isinstance(best, Aggregated)

    model, source = origin([*facts[:-1], end.model_copy(update={"model": best.model})], None)

    assert (model, source.round, source.metrics) == (best.model, 1, {"accuracy": 0.75})


async def test_the_model_that_an_apps_own_server_left_is_of_all_who_replied_last() -> None:
    first, *made, end = await completed(MemoryBus())
    assert isinstance(end, Completed)
    replies = [fact.model_copy(update={"task": Task.REPLY, "model": None}) for fact in made]

    model, source = origin([first, *replies, end.model_copy(update={"model": await stored(MemoryBus(), 7)})], None)

    assert (model.round, source.round, source.training_round, source.members, source.metrics) == (7, 7, 2, ("a", "b"), {"accuracy": 0.75})
    with pytest.raises(BadInput, match="no model of training round 1; there are none"):
        origin([first, *replies, end], 1)
