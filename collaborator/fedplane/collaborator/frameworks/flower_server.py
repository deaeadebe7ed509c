"""A Flower app's own ServerApp, unmodified: it runs here to its end, and what it sends to nodes goes to the federation's clusters.

It finds a Grid, as on a SuperLink, and on it a node for each cluster of the run.
What it asks becomes rounds (see `asking`), and what clusters could not answer becomes an error in place of a reply.
A process that is started again runs it from the beginning, and is then given the replies that there were.
So that it says the same again, the random numbers of Python, numpy and PyTorch begin with the run's own number.

The model that it leaves is the first of these that there is:
an array record in the context's state, what the last `Strategy.start` returned, and what it sent last.
Written against flwr 1.38 to 1.41.
What is not public there has to be looked at with every release: `Message`'s metadata, and what `flower_project` uses.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result, Strategy

from .answers import Answer, Tensors
from .asking import Asking, Failure, Question, Reply
from .flower_project import SERVER_NODE, NodesGrid, Project, identify
from .flower_records import content_of, records_of
from .records import Record

__all__ = ["open_server"]

_CLIENT_RAISED = 2
"""Flower's code for a ClientApp that raised an exception, which is what most clusters decline for."""

_ROUND = "server-round"

_SEEDS = 2**32
"""numpy takes no larger seed."""


def open_server(directory: Path) -> FlowerServer:
    """The server of the directory's app. Raises Unanswerable."""
    project = Project.at(directory)
    return FlowerServer(project, project.component("serverapp", ServerApp))


class FlowerServer:
    """A ServerApp in this process."""

    def __init__(self, project: Project, server: ServerApp) -> None:
        self._project = project
        self._server = server

    def run(self, drive: dict[str, Any], asking: Asking) -> Answer:
        """See `Server.run`."""
        number = identify(drive["run"])
        grid = _FederationGrid(number, drive["clusters"], asking)
        context = Context(number, SERVER_NODE, {}, RecordDict(), self._project.run_config(drive["run_configuration"]))
        results: list[Result] = []
        _seed(number)
        with _Listening(results):
            self._server(grid, context)
        return Answer(1, _measured(results), _model(context, results, grid.sent))


def _seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number % _SEEDS)
    torch = sys.modules.get("torch")  # an app that does not use it need not have it
    if torch is not None:
        torch.manual_seed(number % _SEEDS)


class _Listening:
    """Notes what strategies return while the server runs. Flower itself keeps it nowhere, and an app need not either."""

    def __init__(self, results: list[Result]) -> None:
        self._results = results
        self._start = Strategy.start

    def __enter__(self) -> None:
        start, results = self._start, self._results

        def listened(*given: Any, **named: Any) -> Result:
            result = start(*given, **named)
            results.append(result)
            return result

        Strategy.start = listened

    def __exit__(self, *_: object) -> None:
        Strategy.start = self._start


def _model(context: Context, results: list[Result], sent: ArrayRecord | None) -> Tensors:
    """The arrays that the server leaves; none if it never had any."""
    stated = list(context.state.array_records.values())
    returned = [result.arrays for result in results if result.arrays]
    record = stated[0] if stated else returned[-1] if returned else sent
    return {name: array.numpy() for name, array in record.items()} if record else {}


def _measured(results: list[Result]) -> dict[str, float]:
    """What the server itself measured last."""
    measured = results[-1].evaluate_metrics_serverapp if results else {}
    last = measured[max(measured)] if measured else {}
    return {name: float(value) for name, value in last.items() if isinstance(value, (int, float)) and math.isfinite(value)}


class _FederationGrid(NodesGrid):
    """The run's clusters as nodes. Any thread may send."""

    def __init__(self, run: int, clusters: int, asking: Asking) -> None:
        super().__init__(run, clusters)
        self._asking = asking
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pushed: dict[str, Message | None] = {}
        self._training_round = 0
        self.sent: ArrayRecord | None = None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = self._numbered(messages)

        def ask() -> None:
            replies = {reply.metadata.reply_to_message_id: reply for reply in self._ask(pushed, None)}
            with self._lock:
                self._pushed.update({message.metadata.message_id: replies.get(message.metadata.message_id) for message in pushed})

        threading.Thread(target=ask, name="push_messages", daemon=True).start()
        return [message.metadata.message_id for message in pushed]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        with self._lock:
            found = [self._pushed.pop(identity, None) for identity in message_ids]
        return [reply for reply in found if reply is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self._ask(self._numbered(messages), timeout)

    def _numbered(self, messages: Iterable[Message]) -> list[Message]:
        """The messages with identities of their own, by which their replies are known."""
        numbered = list(messages)
        for message in numbered:
            if message.metadata.dst_node_id not in self._nodes:
                raise ValueError(f"there is no node {message.metadata.dst_node_id}; there are {self._nodes}")
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
        return numbered

    def _ask(self, messages: list[Message], timeout: float | None) -> list[Message]:
        if not messages:
            return []
        answers = self._asking.ask(self._questions(messages), timeout)
        return [reply for index, message in enumerate(messages) if (reply := _reply(message, answers[index])) is not None]

    def _questions(self, messages: list[Message]) -> list[Question]:
        written: dict[int, list[Record]] = {}
        for message in messages:
            content = message.content
            if id(content) not in written:  # a strategy sends everyone the same object
                written[id(content)] = records_of(content)
                with self._lock:
                    self.sent = next(iter(content.array_records.values()), self.sent)
                    self._training_round = _training_round(message, self._training_round)
        return [
            Question(
                self._nodes.index(message.metadata.dst_node_id), message.metadata.message_type, message.metadata.group_id,
                self._training_round, written[id(message.content)],
            )
            for message in messages
        ]  # fmt: skip


def _training_round(message: Message, before: int) -> int:
    """The round as the app counts: what its configuration says, or else its group; the last one, if neither does."""
    told = [config[_ROUND] for config in message.content.config_records.values() if _ROUND in config]
    if told and isinstance(told[0], int) and told[0] >= 0:
        return told[0]
    group = str(message.metadata.group_id)
    return int(group) if group.isdecimal() else before


def _reply(message: Message, answer: Any) -> Message | None:
    if isinstance(answer, Failure):
        return Message(Error(_CLIENT_RAISED, f"{answer.reason}: {answer.message}"), reply_to=message)
    if isinstance(answer, Reply):
        try:
            content = content_of(answer.content, answer.weight, answer.metrics)
        except (TypeError, ValueError, KeyError, OverflowError) as error:  # what Flower cannot hold is the failure of who sent it, alone
            return Message(Error(_CLIENT_RAISED, f"bad-reply: {error}"), reply_to=message)
        return Message(content, reply_to=message)
    return None
