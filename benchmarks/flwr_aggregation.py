"""Flower's side of the aggregation benchmarks: it answers on its output how long Flower took for what it is told on its input.

It is run by `aggregation.py` with the Python of an environment that has flwr, and needs nothing of ours.
A question is a line of JSON: strategy, members, elements, spread, elements of a tensor.
The answer is one too: seconds of `aggregate_train`, seconds of inflating the replies before it, and whose update the result is.
Replies are inflated from the contents of objects, as a Flower server gets them.
They carry serialized arrays, which `aggregate_train` loads.
"""

import json
import logging
import sys
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["main", "updates"]

STRATEGIES = {"fedavg": FedAvg, "fedmedian": FedMedian, "trimmedmean": FedTrimmedAvg, "krum": Krum}


def updates(members: int, elements: int, spread: float) -> list[np.ndarray]:
    """What `aggregation.updates` makes too."""
    random = np.random.default_rng(0)
    model = random.standard_normal(elements, dtype=np.float32)
    away = [np.float32(spread * (0.5 if member == 3 else 1.0)) for member in range(members)]
    return [model + random.standard_normal(elements, dtype=np.float32) * each for each in away]


def replied(update: np.ndarray, tensor: int, examples: int) -> tuple[str, dict[str, bytes]]:
    """A reply as it is on its way: the name of its object, and the contents of all its objects."""
    arrays = ArrayRecord({f"t{begin}": Array(update[begin : begin + tensor]) for begin in range(0, len(update), tensor)})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": examples})})
    return content.object_id, {name: held.deflate() for name, held in get_all_nested_objects(content).items()}


def main() -> None:
    logging.disable(logging.CRITICAL)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # or no message can be made
    held, arrays, replies = None, [], []
    for line in sys.stdin:
        asked = json.loads(line)
        wanted = (asked["members"], asked["elements"], asked["spread"], asked["tensor"])
        if wanted != held:
            replies, arrays, held = [], updates(*wanted[:3]), wanted
            for number, update in enumerate(arrays):
                replies.append(replied(update, asked["tensor"], 10 + number))
                arrays[number] = update[:1000].copy()
        strategy, question = STRATEGIES[asked["strategy"]](), Message(RecordDict(), dst_node_id=1, message_type="train")
        begun = time.perf_counter()
        messages = [Message(inflate_object_from_contents(name, dict(contents)), reply_to=question) for name, contents in replies]
        inflated = time.perf_counter()
        result, _ = strategy.aggregate_train(1, messages)
        ended = time.perf_counter()
        first = result["t0"].numpy()[:1000]
        chosen = [number for number, array in enumerate(arrays) if np.array_equal(array, first[: len(array)])]
        sys.stdout.write(json.dumps({"inflating": inflated - begun, "seconds": ended - inflated, "chosen": chosen}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
