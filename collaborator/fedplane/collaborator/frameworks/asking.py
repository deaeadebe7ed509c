"""What an app's own server asks of its clients: gathered into rounds, laid out as files, and answered from files.

A server of the newer kind asks everyone in one call, and one of the older kind calls once for each client, from a pool of threads.
A round is a question to many clusters, so calls that come within a moment of each other are gathered, and answered together.
One round is under way at a time; whatever is asked meanwhile is the next one's.
A round has one question for each cluster, so whoever asks a cluster twice has two rounds.

The files are told in the package's description. Who takes them, and how long that lasts, is `exchange`'s business.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import tensors
from .answers import Answer, Tensors, forms
from .records import BadRecords, Record, packed, unpacked

__all__ = ["Asking", "Failure", "Question", "Reply", "Server"]

GATHER_SECONDS = 0.02
"""How long a round waits for further calls. Threads of a pool begin within a millisecond; a round takes far longer."""

_READABLE, _WRITABLE = 0o644, 0o777
"""By everyone, whatever the umask of the app's image: who answers may be another user, in another container."""

Packed = tuple[Tensors, dict[str, str]]


class Question(NamedTuple):
    """What one client is asked. `position` is its cluster's, `kind` and `group` are the app's words."""

    position: int
    kind: str
    group: str
    training_round: int
    content: list[Record]


class Failure(NamedTuple):
    """Why there is no reply: a word and a sentence."""

    reason: str
    message: str


class Reply(NamedTuple):
    """What came back. Of a mean of replies, `weight` is the sum of the weights, and `metrics` are the means."""

    content: list[Record]
    weight: float | None = None
    metrics: dict[str, float] | None = None


class _Round:
    """Questions that are asked together. `over` is set when they are answered, or cannot be: `error` says why."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.timeouts: list[float] = []
        self.answers: list[Any] = []
        self.over = threading.Event()
        self.error: BaseException | None = None

    def takes(self, questions: Sequence[Question]) -> bool:
        asked = {question.position for question in self.questions}
        return not any(question.position in asked for question in questions)


class Asking:
    """Where a server's questions go. Any thread may ask."""

    def __init__(self, directory: Path, exchange: Callable[[int], None], gather_seconds: float = GATHER_SECONDS) -> None:
        self._directory = directory
        self._exchange = exchange
        self._gather_seconds = gather_seconds
        self._number = 0
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._gathering: _Round | None = None

    def ask(self, questions: Sequence[Question], timeout_seconds: float | None) -> list[Any]:
        """For each question a Reply, a Failure, or None if nobody answered in time. Blocks until then."""
        answers: dict[int, Any] = {}
        for wave in _waves(questions):
            answered = self._asked([questions[index] for index in wave], timeout_seconds)
            answers.update({index: answered[place] for place, index in enumerate(wave)})
        return [answers[index] for index in range(len(questions))]

    def _asked(self, questions: Sequence[Question], timeout_seconds: float | None) -> list[Any]:
        while True:
            with self._lock:
                held = self._gathering
                leads = held is None
                held = self._gathering = held or _Round()
                fits = held.takes(questions)
                if fits:
                    begin = len(held.questions)
                    held.questions += questions
                    held.timeouts += [] if timeout_seconds is None else [timeout_seconds]
            if fits and leads:
                self._lead(held)
            held.over.wait()
            if fits:
                if held.error is not None:
                    raise RuntimeError("the round could not be asked") from held.error
                return held.answers[begin : begin + len(questions)]

    def _lead(self, held: _Round) -> None:
        try:
            time.sleep(self._gather_seconds)
            with self._turn:
                with self._lock:
                    self._gathering = None
                    self._number += 1
                    number = self._number
                held.answers = self._exchanged(held, number)
        except BaseException as error:
            held.error = error
            raise
        finally:
            held.over.set()

    def _exchanged(self, held: _Round, number: int) -> list[Any]:
        directory = self._directory / f"asked-{number}"
        directory.mkdir(parents=True)
        directory.chmod(_WRITABLE)
        contents, which = _distinct([question.content for question in held.questions])
        for index, (found, metadata) in enumerate(contents):
            tensors.write(directory / f"content-{index}.safetensors", found, metadata)
            (directory / f"content-{index}.safetensors").chmod(_READABLE)
        told = [
            {"position": question.position, "kind": question.kind, "group": question.group, "content": which[index]}
            for index, question in enumerate(held.questions)
        ]
        document = {
            "training_round": max(question.training_round for question in held.questions),
            "timeout_seconds": min(held.timeouts) if held.timeouts else None,
            "contents": len(contents),
            "instructions": told,
        }
        (directory / "asked.json").write_text(json.dumps(document))
        (directory / "asked.json").chmod(_READABLE)
        self._exchange(number)
        return _read(directory, len(told))


class Server(Protocol):
    """An app's own server that is loaded."""

    def run(self, drive: dict[str, Any], asking: Asking) -> Answer:
        """Run it to its end; the model that it leaves. `drive` is `drive.json`; whatever the app's own code raises passes through."""
        ...


def _waves(questions: Sequence[Question]) -> list[list[int]]:
    """The questions' indexes, so that no wave asks a client twice."""
    waves: list[list[int]] = []
    times: dict[int, int] = {}
    for index, question in enumerate(questions):
        wave = times[question.position] = times.get(question.position, -1) + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(index)
    return waves


def _distinct(contents: Sequence[list[Record]]) -> tuple[list[Packed], list[int]]:
    """Each content once, and which one every question has. A server that asks everyone the same may have written it once or for each."""
    by_identity: dict[int, int] = {}
    found: list[Packed] = []
    for content in contents:
        if id(content) not in by_identity:
            made = packed(content)
            index = next((index for index, other in enumerate(found) if _are_equal(made, other)), len(found))
            by_identity[id(content)] = index
            if index == len(found):
                found.append(made)
    return found, [by_identity[id(content)] for content in contents]


def _are_equal(one: Packed, other: Packed) -> bool:
    """To the bit. Contents that differ mostly do so in their first tensor, so nearly nothing of them is read."""
    (tensors_of_one, told_of_one), (tensors_of_other, told_of_other) = one, other
    return (
        told_of_one == told_of_other
        and forms(tensors_of_one) == forms(tensors_of_other)
        and all(np.array_equal(_bits(tensor), _bits(tensors_of_other[name])) for name, tensor in tensors_of_one.items())
    )


def _bits(tensor: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)


def _read(directory: Path, questions: int) -> list[Any]:
    answers: list[Any] = [None] * questions
    for told in json.loads((directory / "replies.json").read_text())["replies"]:
        if "error" in told:
            answers[told["instruction"]] = Failure(told["error"]["reason"], told["error"]["message"])
        else:
            answers[told["instruction"]] = _reply(directory / told["content"], told)
    return answers


def _reply(file: Path, told: dict[str, Any]) -> Reply | Failure:
    """What the file says. A cluster has written it, so it may be anything, and what is no reply is that cluster's failure alone."""
    try:
        content = unpacked(tensors.read(file), tensors.metadata(file))
    except (tensors.BadTensors, BadRecords) as error:
        return Failure("bad-reply", f"what the cluster sent is no reply: {error}")
    return Reply(content, told.get("weight"), told.get("metrics"))
