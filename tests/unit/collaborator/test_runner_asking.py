"""What a server asks becomes rounds: calls of one moment together, no cluster twice, each content once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedplane.collaborator.frameworks import tensors
from fedplane.collaborator.frameworks.asking import Asking, Failure, Question, Reply
from fedplane.collaborator.frameworks.records import Record, packed

GATHER_SECONDS = 0.05
CONTENT = [Record("arrays", "arrays", {"w": np.arange(3.0)})]


def question(position: int, content: list[Record] = CONTENT, training_round: int = 1) -> Question:
    return Question(position, "train", "1", training_round, content)


class Answering:
    """Answers every question by its cluster's position, but for those that are to fail or to be late; remembers what was asked."""

    def __init__(self, directory: Path, fail: int = -1, late: int = -1) -> None:
        self.directory, self.fail, self.late = directory, fail, late
        self.asked: list[Any] = []
        self.asking = Asking(directory, self.exchange, GATHER_SECONDS)

    def exchange(self, number: int) -> None:
        here = self.directory / f"asked-{number}"
        asked = json.loads((here / "asked.json").read_text())
        self.asked.append(asked)
        replies: list[dict[str, Any]] = []
        for index, instruction in enumerate(asked["instructions"]):
            if instruction["position"] == self.fail:
                replies.append({"instruction": index, "error": {"reason": "app-raised", "message": "no data"}})
            elif instruction["position"] != self.late:
                tensors.write(here / f"r{index}", *packed([Record("m", "metrics", {"from": instruction["position"]})]))
                replies.append({"instruction": index, "content": f"r{index}"})
        (here / "replies.json").write_text(json.dumps({"replies": replies}))


def told(answers: list[Any]) -> list[Any]:
    return [answer.content[0].values["from"] if isinstance(answer, Reply) else answer for answer in answers]


def test_each_question_gets_its_own_answer_an_error_or_none(tmp_path: Path) -> None:
    it = Answering(tmp_path, fail=1, late=2)

    answers = it.asking.ask([question(3), question(1), question(2), question(0)], 60)

    assert told(answers) == [3, Failure("app-raised", "no data"), None, 0]
    assert (it.asked[0]["timeout_seconds"], it.asked[0]["training_round"], it.asked[0]["contents"]) == (60, 1, 1)


def test_a_content_that_everyone_is_sent_is_written_once_be_it_one_object_or_equal_ones(tmp_path: Path) -> None:
    it = Answering(tmp_path)
    equal, other = [Record("arrays", "arrays", {"w": np.arange(3.0)})], [Record("arrays", "arrays", {"w": np.zeros(3)})]

    it.asking.ask([question(0), question(1), question(2, equal), question(3, other)], None)

    assert [each["content"] for each in it.asked[0]["instructions"]] == [0, 0, 0, 1]
    assert sorted(path.name for path in (tmp_path / "asked-1").glob("content-*")) == ["content-0.safetensors", "content-1.safetensors"]


def test_calls_from_many_threads_are_one_round_and_each_gets_its_own_answers(tmp_path: Path) -> None:
    it = Answering(tmp_path)
    barrier = threading.Barrier(8)

    def call(position: int) -> list[Any]:
        barrier.wait()
        return told(it.asking.ask([question(position)], 60))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))

    assert answers == [[position] for position in range(8)]
    assert len(it.asked) == 1


def test_whoever_is_asked_twice_is_asked_in_two_rounds(tmp_path: Path) -> None:
    it = Answering(tmp_path)

    answers = it.asking.ask([question(0), question(1), question(0)], None)

    assert told(answers) == [0, 1, 0]
    assert [[each["position"] for each in asked["instructions"]] for asked in it.asked] == [[0, 1], [0]]


def test_two_threads_that_ask_the_same_cluster_have_a_round_each(tmp_path: Path) -> None:
    it = Answering(tmp_path)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: told(it.asking.ask([question(0)], None)), range(2)))

    assert (answers, len(it.asked)) == ([[0], [0]], 2)


def test_a_mean_of_replies_comes_with_its_weight_and_metrics(tmp_path: Path) -> None:
    def exchange(number: int) -> None:
        here = tmp_path / f"asked-{number}"
        tensors.write(here / "mean", *packed(CONTENT))
        (here / "replies.json").write_text('{"replies": [{"instruction": 1, "content": "mean", "weight": 6, "metrics": {"loss": 0.5}}]}')

    first, second = Asking(tmp_path, exchange, GATHER_SECONDS).ask([question(0), question(1)], None)

    assert first is None
    assert (second.weight, second.metrics, second.content[0].values["w"].tolist()) == (6, {"loss": 0.5}, [0, 1, 2])


@pytest.mark.parametrize("calls", [1, 3])
def test_a_round_that_cannot_be_asked_is_an_error_for_everyone_in_it(tmp_path: Path, calls: int) -> None:
    def break_(number: int) -> None:
        raise ValueError("the pipe has a leak")

    asking = Asking(tmp_path, break_, GATHER_SECONDS)

    def call(position: int) -> str:
        with pytest.raises((ValueError, RuntimeError)) as raised:
            asking.ask([question(position)], None)
        return str(raised.value.__cause__ or raised.value)

    with ThreadPoolExecutor(calls) as pool:
        assert list(pool.map(call, range(calls))) == ["the pipe has a leak"] * calls
