"""Flower apps, unmodified: the app's ClientApp trains and evaluates, and its ServerApp is asked for the first model only.

A Flower app normally meets a SuperLink, which gives every message a new process.
Here the ClientApp is loaded once and called with messages that this module makes.
They hold the global model as the record `arrays`, and the server's configuration and the round as the record `config`.
Where the run's strategy is the app's own, they hold what the ServerApp sent, which `flower_server` runs; else its loop is not run.
But only it knows the first model and what its clients are told, so it is started on a grid that takes the first message and stops it there.
An app whose ServerApp cannot be started on a cluster says how to make the first model:

    [tool.fedplane]
    initial-model = "package.module:function"    # called with the run configuration; returns arrays by name, a list, or a torch state_dict

What a client keeps in `context.state` is written down after each message that it has answered, and outlives its process.

Apps of the older kind, a `client_fn` and a `server_fn`, name their records differently and are served as well.
Written against flwr 1.38 to 1.41.
What is not public there has to be looked at with every release:
records as protobuf, what `flower_project` uses, and that a ClientApp with a `client_fn` has `_call`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Records
from flwr.server import strategy as older_strategies
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Strategy

from . import Unanswerable
from .answers import Answer, Tensors, without_bfloat16
from .flower_project import SERVER_NODE, NodesGrid, Project, identify, node_at
from .flower_records import WEIGHTS, content_of, records_of, told_of
from .records import packed, unpacked

__all__ = ["open_app"]

_NODES_PRETENDED = 100
"""How many nodes the ServerApp is told of at least: strategies wait for a minimum, and few ask for more."""

_ROUND = "server-round"

_PRIVATE = ("DifferentialPrivacy", "DPFedAvg")
"""How the names of those of Flower's strategies begin that add noise on the server."""

_STATE = "flower-state"
"""The file in the run's directory that has the client's state."""

_STATE_BYTES_MAX = 1_000_000_000
"""What is written of a client's state: protobuf ends at twice as much, and takes a quarter of a minute for this."""


def open_app(directory: Path) -> FlowerApp:
    """The app of the directory. Raises Unanswerable."""
    project = Project.at(directory)
    return FlowerApp(project, project.component("clientapp", ClientApp))


class FlowerApp:
    """A Flower app in this process, with the context that its client keeps from message to message."""

    def __init__(self, project: Project, client: ClientApp) -> None:
        self._project = project
        self._client = client
        self._is_older = getattr(client, "_call", None) is not None
        self._context: Context | None = None
        self._written = b""

    def train(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.train`."""
        content = self._ask("train", invitation, model)
        records = list(content.array_records.values())
        if len(records) != 1:
            raise Unanswerable("wrong-layout", f"the app returned {len(records)} array records; it must return one, the trained model")
        return Answer(*_measured(content), tensors=_tensors(records[0]))

    def evaluate(self, invitation: dict[str, Any], model: Tensors) -> Answer:
        """See `App.evaluate`."""
        return Answer(*_measured(self._ask("evaluate", invitation, model)))

    def reply(self, invitation: dict[str, Any], sent: Tensors, told: Mapping[str, str]) -> Answer:
        """See `App.reply`."""
        context, instruction = self._context_of(invitation), invitation["instruction"]
        asked = Message(content_of(unpacked(sent, told)), context.node_id, instruction["kind"], group_id=instruction["group"])
        replied = records_of(self._called(asked, context, instruction["kind"], Path(invitation["home"])), folded=invitation["fold"])
        tensors, header = packed(replied, folded=invitation["fold"])
        return Answer(*told_of(replied), tensors=tensors, told=header)

    def initialize(self, invitation: dict[str, Any]) -> Answer:
        """See `App.initialize`."""
        declared = self._project.document["tool"].get("fedplane", {}).get("initial-model")
        run_config = self._project.run_config(invitation["run_configuration"])
        if declared:
            made = self._project.load("initial-model", declared)(run_config)
            return Answer(1, {}, _named(made))
        server = self._project.component("serverapp", ServerApp)
        arrays, config = _first_sent(server, run_config, lambda message: self._client(message, self._context_of(invitation)), invitation)
        return Answer(1, {}, _tensors(arrays), {key: value for key, value in config.items() if key != _ROUND})

    def _ask(self, task: str, invitation: dict[str, Any], model: Tensors) -> RecordDict:
        context = self._context_of(invitation)
        arrays = ArrayRecord({name: Array(np.asarray(tensor)) for name, tensor in without_bfloat16(model).items()})
        config = ConfigRecord({**invitation["configuration"], _ROUND: invitation["training_round"]})
        older = "fitins" if task == "train" else "evaluateins"
        names = (f"{older}.parameters", f"{older}.config") if self._is_older else ("arrays", "config")
        content = RecordDict({names[0]: arrays, names[1]: config})
        message = Message(content, context.node_id, task, group_id=str(invitation["training_round"]))
        return self._called(message, context, task, Path(invitation["home"]))

    def _called(self, message: Message, context: Context, task: str, home: Path) -> RecordDict:
        reply = self._client(message, context)
        if not isinstance(reply, Message):
            raise Unanswerable("app-raised", f"the app's {task} function returned a {type(reply).__name__}; it must return a Message")
        if reply.has_error():
            raise Unanswerable("app-raised", f"the app's {task} function replied with an error: {reply.error.reason}")
        self._keep_state(home / _STATE, context.state)
        return reply.content

    def _keep_state(self, file: Path, state: RecordDict) -> None:
        message = recorddict_to_proto(state)
        if message.ByteSize() > _STATE_BYTES_MAX:
            print(f"the client's state has {message.ByteSize()} bytes and will not outlive its process; keep less")  # noqa: T201 -- the app's log
            return
        content = message.SerializeToString(deterministic=True)
        if content != self._written:
            file.with_suffix(".new").write_bytes(content)
            file.with_suffix(".new").replace(file)  # all of it or nothing, should this process be killed
            self._written = content

    def _context_of(self, invitation: dict[str, Any]) -> Context:
        run, node = identify(invitation["run"]), node_at(invitation["position"])
        if self._context is None or self._context.run_id != run:
            self._context = Context(run, node, {}, _state_in(Path(invitation["home"]) / _STATE), {})
        self._context.run_config = self._project.run_config(invitation["run_configuration"])
        self._context.node_config = {
            "partition-id": invitation["position"],
            "num-partitions": invitation["clusters"],
            "cluster-name": invitation["cluster"],
            "data-path": invitation["data"],
        }
        return self._context


def _state_in(file: Path) -> RecordDict:
    """What the client kept in a process before this one."""
    return recorddict_from_proto(Records.FromString(file.read_bytes())) if file.exists() else RecordDict()


class _Sent(BaseException):
    """What the ServerApp sent first. Not an Exception, so that an app which catches those still stops."""


class _DeadEndGrid(NodesGrid):
    """A grid that pretends to have nodes and ends the ServerApp when it sends them something.

    Only the older kind asks a client a question before that, for its parameters; the app's own client answers it.
    """

    def __init__(self, run: int, nodes: int, ask_client: Any) -> None:
        super().__init__(run, nodes)
        self._ask_client = ask_client
        self.sent: Message | None = None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.sent = self.sent or next(iter(messages), None)
        raise _Sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        messages = list(messages)
        if messages and messages[0].metadata.message_type == "get_parameters":
            return [self._ask_client(message) for message in messages]
        self.push_messages(messages)
        return []


def _first_sent(
    server: ServerApp, run_config: dict[str, Any], ask_client: Any, invitation: dict[str, Any]
) -> tuple[ArrayRecord, ConfigRecord]:
    run = identify(invitation["run"])
    grid = _DeadEndGrid(run, max(invitation["clusters"], _NODES_PRETENDED), ask_client)
    declare = "or declare [tool.fedplane] initial-model in the app's pyproject.toml"
    drive = "or say spec.strategy {name: app}, by which the ServerApp itself decides"
    strategies: list[Any] = []
    # The older kind does not even let `_Sent` through: it is lost in a pool of threads, so what counts is what the grid has.
    with contextlib.suppress(_Sent):
        try:
            with _noting(strategies):
                server(grid, Context(run, SERVER_NODE, {}, RecordDict(), run_config))
        except Exception as error:  # foreign code may raise anything
            raise Unanswerable("app-raised", f"the ServerApp raised {type(error).__name__}: {error}; mend it, {declare}") from error
    if grid.sent is None:
        raise Unanswerable("not-supported", f"the ServerApp sent nothing to its clients; let it begin with training, {declare}")
    _insist_on_no_noise(strategies, drive)
    content, kind = grid.sent.content, grid.sent.metadata.message_type
    if kind != "train" or len(content.array_records) != 1 or len(content.config_records) > 1:
        raise Unanswerable(
            "not-supported",
            f"the ServerApp's first message is of type {kind!r} with records {sorted(content)}; "
            f"it must be of type 'train' with one array record and one config record, {declare}, {drive}",
        )
    (name, arrays), config = next(iter(content.array_records.items())), next(iter(content.config_records.values()), ConfigRecord())
    if not set(content) <= {"arrays", "config"} and name != "fitins.parameters":
        raise Unanswerable("not-supported", f"the strategy names its records {sorted(content)}; keep the names 'arrays' and 'config'")
    unfit = sorted(
        key for key, value in config.items() if isinstance(value, bytes) or (isinstance(value, list) and bytes in map(type, value))
    )
    if unfit:
        raise Unanswerable("not-supported", f"the strategy's configuration has bytes in {unfit}; use numbers, strings and truth values")
    return arrays, config


@contextlib.contextmanager
def _noting(strategies: list[Any]) -> Iterator[None]:
    """Notes which strategies are at work meanwhile, as far as `_insist_on_no_noise` has to know; a message does not say who sent it."""
    private = [kind for name, kind in vars(older_strategies).items() if name.startswith(_PRIVATE)]
    noted = [(Strategy, "start", Strategy.start), *((kind, "configure_fit", kind.configure_fit) for kind in private)]
    for kind, name, method in noted:
        setattr(kind, name, _noted(method, strategies))
    try:
        yield
    finally:
        for kind, name, method in noted:
            setattr(kind, name, method)


def _noted(method: Any, strategies: list[Any]) -> Any:
    def called(strategy: Any, *given: Any, **named: Any) -> Any:
        strategies.append(strategy)
        return method(strategy, *given, **named)

    return called


def _insist_on_no_noise(strategies: list[Any], drive: str) -> None:
    """Its loop is not run, so a strategy that adds noise would add none, and nobody would notice that what was private is not."""
    private = [name for strategy in strategies for name in (kind.__name__ for kind in type(strategy).__mro__) if name.startswith(_PRIVATE)]
    if private:
        said = f"the ServerApp's strategy is {private[0]}, whose noise would be missing as only its first message is used"
        raise Unanswerable("not-supported", f"{said}; take another, {drive}")


def _measured(content: RecordDict) -> tuple[Any, dict[str, Any]]:
    """The number of examples and the metrics. Lists are dropped, with a line in the log: a metric of a federation is one number."""
    values: dict[str, Any] = {}
    for record in content.metric_records.values():
        values.update(record)
    for name in ("fitres.metrics", "evaluateres.metrics"):
        older = content.config_records.get(name, {})
        values.update({key: value for key, value in older.items() if isinstance(value, (bool, int, float))})
    weight = next((values[name] for name in WEIGHTS if name in values), None)
    lists = [name for name, value in values.items() if isinstance(value, list)]
    for name in lists:
        print(f"metric {name!r} is a list and is not reported; return one number")  # noqa: T201 -- standard output is the app's log
    return weight, {name: value for name, value in values.items() if name not in WEIGHTS and name not in lists}


def _tensors(record: ArrayRecord) -> Tensors:
    # Not the record's own dtype and shape: the older kind leaves them empty, and the bytes have them anyway.
    return {name: array.numpy() for name, array in record.items()}


def _named(made: Any) -> Tensors:
    """Arrays by name from what an `initial-model` function returned. torch is not imported for it, since its tensors can become arrays."""
    items = made.items() if hasattr(made, "items") else ((str(position), array) for position, array in enumerate(made))
    return {name: array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array) for name, array in items}
