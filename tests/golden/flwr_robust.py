"""What Flower's own robust strategies make of the same updates, so that ours can be held against it.

Runs in an environment with flwr and needs nothing of ours: `examples/01-mnist/.venv/bin/python tests/golden/flwr_robust.py`.
It prints the updates and the results as JSON; what flwr 1.41.0 printed is flwr_robust.json.

Members differ by about their own size, and have equally many examples.
Flower's Krum takes distances of raw weights in float32, so it is only right when members differ by about as much as they weigh.
And it weights those it chooses by examples, which the paper does not.
Two members are far off. So choosing n - 2f at once, as Flower's Bulyan does, chooses those that repeated choosing does.
"""

import json
import sys

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Bulyan, FedMedian, FedTrimmedAvg, Krum, MultiKrum
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["STRATEGIES", "updates"]

STRATEGIES = {
    "fedmedian": ({}, FedMedian()),
    "trimmedmean": ({"beta": 0.2}, FedTrimmedAvg(beta=0.2)),
    "krum": ({"byzantine": 1}, Krum(num_malicious_nodes=1)),
    "multikrum": ({"byzantine": 1, "keep": 4}, MultiKrum(num_malicious_nodes=1, num_nodes_to_select=4)),
    "bulyan": ({"byzantine": 1}, Bulyan(num_malicious_nodes=1)),
}


def updates(members: int) -> list[list[float]]:
    """Multiples of 1/64, which float32 and JSON both hold exactly."""
    random = np.random.default_rng(members)
    rows = random.integers(-128, 128, (members, 12)) / 64
    rows[1] += 40
    rows[members // 2] -= 30
    return rows.tolist()


def aggregated(strategy, rows: list[list[float]]) -> list[float]:
    replies = []
    for row in rows:
        arrays = ArrayRecord({"w": Array(np.array(row, np.float32))})
        asked = Message(RecordDict(), dst_node_id=1, message_type="train")
        replies.append(Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 10})}), reply_to=asked))
    arrays, _ = strategy.aggregate_train(1, replies)
    return arrays["w"].numpy().astype(float).tolist()


if __name__ == "__main__":
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # or no message can be made
    cases = [
        {"strategy": name, "parameters": parameters, "updates": updates(members), "result": aggregated(strategy, updates(members))}
        for name, (parameters, strategy) in STRATEGIES.items()
        for members in (7, 10, 15)
    ]
    json.dump(cases, sys.stdout, indent=None)
    sys.stdout.write("\n")
