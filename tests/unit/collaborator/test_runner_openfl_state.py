"""What an OpenFL workspace keeps, in files: whose it is, from before which round, and what cannot be written."""

from pathlib import Path

import numpy as np
import pytest

from fedplane.collaborator.frameworks import openfl_state
from fedplane.collaborator.frameworks.openfl_state import State, load, save
from fedplane.collaborator.frameworks.tensors import BadTensors


def state(after: int, value: float = 0.5) -> State:
    kept = {("mine", ("model",)): np.array([value]), ("w", ("trained",)): np.array(value, np.float32), ("needed", ("model",)): "true"}
    return State(after, kept, {"mine": np.array([[after]]), "is needed": "false"})


def shown(kept: State) -> tuple[object, ...]:
    """A state as plain values, dtypes and shapes, which can be compared."""
    parts = [*kept.kept.items(), *kept.optimizer.items()]
    plain = {key: value if isinstance(value, str) else (value.dtype.name, value.shape, value.tolist()) for key, value in parts}
    return kept.after, plain


def test_a_state_is_read_as_it_was_written_and_may_be_changed(tmp_path: Path) -> None:
    save(tmp_path, "us", state(1), made_of=0)
    read = load(tmp_path, "us", before=2)
    read.kept["mine", ("model",)][0] += 1

    assert shown(load(tmp_path, "us", before=2)) == shown(state(1))


def test_of_two_rounds_the_states_are_kept_and_a_repeated_round_goes_on_from_before_it(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        save(tmp_path, "us", state(number), made_of=load(tmp_path, "us", before=number).after)
    found = [load(tmp_path, "us", before).after for before in (1, 2, 3, 4, 5, 9)]
    save(tmp_path, "us", state(3, 7.5), made_of=2)  # nobody goes on from the fourth any more

    assert found == [0, 0, 2, 2, 4, 4]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["openfl-state-2", "openfl-state-3"]
    assert shown(load(tmp_path, "us", before=5)) == shown(state(3, 7.5))


def test_nobody_goes_on_from_a_state_of_another_owner(tmp_path: Path) -> None:
    save(tmp_path, "another run", state(1), made_of=0)

    assert shown(load(tmp_path, "us", before=2)) == shown(State())


def test_what_was_only_begun_to_be_written_is_not_read(tmp_path: Path) -> None:
    save(tmp_path, "us", state(1), made_of=0)
    (tmp_path / "openfl-state-unfinished").write_bytes(b"half a sta")

    assert load(tmp_path, "us", before=9).after == 1


def test_what_no_file_has_is_said_and_what_is_damaged_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, "us", state(1), made_of=0)
    with pytest.raises(BadTensors, match=r"tensor '0' of dtype object cannot be stored"):
        save(tmp_path, "us", State(2, {}, {"momentum": np.array([None])}), made_of=1)
    kept = load(tmp_path, "us", before=9).after
    monkeypatch.setattr(openfl_state, "_STATE_BYTES_MAX", 15)
    with pytest.raises(BadTensors, match="it has 20 bytes, and at most 15 are written"):
        save(tmp_path, "us", state(2), made_of=1)
    (tmp_path / "openfl-state-1").write_bytes(b"nonsense")
    with pytest.raises(BadTensors, match="openfl-state-1 is no safetensors file"):
        load(tmp_path, "us", before=9)

    assert kept == 1
