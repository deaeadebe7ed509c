"""What the tasks of an OpenFL workspace leave for later rounds, in files, so that it outlives the process in which they run.

A state is what there was after one training round. The last one is kept, and the one that it was made of:
a round may be repeated, and an answer may be lost with the process that gave it, and training then goes on from before that round.
Each is a safetensors file, which is moved to its place when it is complete.
It says of whose training it is, so that no other run, cluster or setting goes on from it.
It has arrays and words and nothing else, so to read it runs nobody's code.
When there is a state, and what is done with it, is the business of `openfl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from . import tensors

__all__ = ["State", "discard", "load", "save"]

_NAME = "openfl-state-"
"""How the files' names in the run's directory begin; they end with the training round."""

_UNFINISHED = _NAME + "unfinished"

_STATE_BYTES_MAX = 48_000_000_000
"""What is written of a state: three times the largest update, for a model and what Adam keeps of each of its numbers, two more."""


class State(NamedTuple):
    """What there is after a training round, 0 before the first: what tasks have kept, by name and tags, and the optimizer's tensors."""

    after: int = 0
    kept: Mapping[tuple[str, tuple[str, ...]], Any] = MappingProxyType({})
    optimizer: Mapping[str, Any] = MappingProxyType({})


def save(home: Path, owner: str, state: State, made_of: int) -> None:
    """Write down the state, beside that of the round that it was made of and in place of all others.

    Raises BadTensors for what cannot be written; the files are then as they were.
    """
    keys = [*([name, list(tags)] for name, tags in state.kept), *([name, None] for name in state.optimizer)]
    words, arrays = {}, {}
    for slot, value in enumerate((*state.kept.values(), *state.optimizer.values())):
        if isinstance(value, str):  # OpenFL's task runner for PyTorch has one among its tensors
            words[str(slot)] = value
        else:
            arrays[str(slot)] = np.asarray(value)
    if (size := sum(array.nbytes for array in arrays.values())) > _STATE_BYTES_MAX:
        raise tensors.BadTensors(f"it has {size} bytes, and at most {_STATE_BYTES_MAX} are written")
    unfinished = home / _UNFINISHED
    tensors.write(unfinished, arrays, {"owner": owner, "keys": json.dumps(keys), "words": json.dumps(words)})
    unfinished.replace(home / f"{_NAME}{state.after}")  # all of it or nothing, should this process be killed
    for number, file in _files(home):
        if number not in (state.after, made_of):
            file.unlink()


def load(home: Path, owner: str, before: int) -> State:
    """The last state of that owner from before the training round; an empty one if there is none. Raises BadTensors."""
    for number, file in sorted(_files(home), reverse=True):
        if number < before and (told := tensors.metadata(file)).get("owner") == owner:
            values = {**json.loads(told["words"]), **{slot: np.array(tensor) for slot, tensor in tensors.read(file).items()}}
            keys = [(name, tags, values[str(slot)]) for slot, (name, tags) in enumerate(json.loads(told["keys"]))]
            kept = {(name, tuple(tags)): value for name, tags, value in keys if tags is not None}
            return State(number, kept, {name: value for name, tags, value in keys if tags is None})
    return State()


def discard(home: Path) -> None:
    """Remove every state."""
    for _, file in _files(home):
        file.unlink()


def _files(home: Path) -> Iterator[tuple[int, Path]]:
    for file in list(home.glob(_NAME + "*")):
        if (number := file.name[len(_NAME) :]).isdecimal():
            yield int(number), file
