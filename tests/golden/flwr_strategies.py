"""What Flower's own strategies make of some small updates, as JSON: the numbers that ours are compared with.

Run with a Python that has flwr; the output is kept beside this file, so that comparing needs no flwr:

    examples/01-mnist/.venv/bin/python tests/golden/flwr_strategies.py > tests/golden/flwr_strategies.json

Each strategy is given three rounds of updates from three clients, in Flower's messages, and starts from the same model.
The updates are the same whatever the model has become, and are multiples of 1/64, so that they are exact in every float.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, QFedAvg, Strategy
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["document"]

SHAPES = {"w": (4, 3), "b": (2,)}
EXAMPLES = (10, 20, 50)
ROUNDS = 3

STRATEGIES: dict[str, tuple[type[Strategy], dict[str, Any]]] = {
    "fedavg": (FedAvg, {}),
    "fedavgm": (FedAvgM, {"server_momentum": 0.9, "server_learning_rate": 0.5}),
    "fedadagrad": (FedAdagrad, {}),
    "fedadam": (FedAdam, {}),
    "fedyogi": (FedYogi, {}),
    "fedprox": (FedProx, {"proximal_mu": 0.25}),
    "qfedavg": (QFedAvg, {"client_learning_rate": 0.5, "q": 2.0}),
}
"""Flower's defaults, except where there is none, or where the default makes the strategy federated averaging."""


class Nodes:
    """As much of a grid as choosing clients needs."""

    def get_node_ids(self) -> Iterable[int]:
        return range(1, len(EXAMPLES) + 1)


def arrays(random: np.random.Generator) -> dict[str, Any]:
    return {name: (random.integers(-128, 128, shape) / 64).astype(np.float32) for name, shape in SHAPES.items()}


def record(values: dict[str, Any]) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in values.items()})


def flat(values: dict[str, Any]) -> list[float]:
    return [float(value) for name in SHAPES for value in values[name].ravel()]


def reply(asked: Message, update: dict[str, Any], examples: int, loss: float) -> Message:
    metrics = MetricRecord({"num-examples": examples, "train_loss": loss})
    return Message(RecordDict({"arrays": record(update), "metrics": metrics}), reply_to=asked)


def rounds_of(strategy: Strategy, model: dict[str, Any], rounds: list[list[tuple[dict[str, Any], int, float]]]) -> dict[str, Any]:
    """The model after each round, and what the clients were told in the last."""
    models, told = [], {}
    present = record(model)
    for number, answers in enumerate(rounds, 1):
        asked = list(strategy.configure_train(number, present, ConfigRecord(), Nodes()))
        told = dict(asked[0].content["config"])
        present, _ = strategy.aggregate_train(number, [reply(message, *answer) for message, answer in zip(asked, answers, strict=True)])
        models.append(flat({name: array.numpy() for name, array in present.items()}))
    return {"models": models, "told": told}


def document() -> dict[str, Any]:
    random = np.random.default_rng(7)
    model = arrays(random)
    rounds = [[(arrays(random), examples, float(random.integers(1, 64)) / 16) for examples in EXAMPLES] for _ in range(ROUNDS)]
    return {
        "model": flat(model),
        "rounds": [
            [{"update": flat(update), "examples": examples, "loss": loss} for update, examples, loss in answers] for answers in rounds
        ],
        **{name: rounds_of(kind(**settings), model, rounds) for name, (kind, settings) in STRATEGIES.items()},
    }


if __name__ == "__main__":
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # a message says who sent it
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in document().items()]
    print("{\n" + ",\n".join(lines) + "\n}")  # noqa: T201 - its output is its purpose
