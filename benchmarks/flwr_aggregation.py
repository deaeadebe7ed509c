"""Flower's side of the aggregation benchmarks: what becomes of replies between its object store and its strategy. See `peering`.

Replies are the contents of objects, as a SuperLink gets them.
Verifying is what its object store does with each content that is put into it: it compares the SHA-256 with the object's name.
Loading is inflating, which the ServerApp does with the contents that it pulls; it verifies nothing.
Replies then carry serialized arrays, which `aggregate_train` loads.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents, validate_object_content
from flwr.supercore.task_identity import TaskIdentity
from peering import Steps, serve

__all__ = ["main"]

STRATEGIES = {"fedavg": FedAvg, "fedmedian": FedMedian, "trimmedmean": FedTrimmedAvg, "krum": Krum}

Reply = tuple[str, dict[str, bytes]]
"""As it is on its way: the name of its object, and the contents of all its objects by name."""


def reply(number: int, tensors: dict[str, np.ndarray]) -> Reply:
    arrays = ArrayRecord({name: Array(tensor) for name, tensor in tensors.items()})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 10 + number})})
    return content.object_id, {name: held.deflate() for name, held in get_all_nested_objects(content).items()}


def aggregate(strategy: str, replies: list[Reply], steps: Steps) -> tuple[np.ndarray, object]:
    chosen, question = STRATEGIES[strategy](), Message(RecordDict(), dst_node_id=1, message_type="train")
    steps.end("loading")
    for _, contents in replies:
        for name, content in contents.items():
            assert get_object_id(content) == name
            validate_object_content(content)
    steps.end("verifying")
    messages = [Message(inflate_object_from_contents(name, dict(contents)), reply_to=question) for name, contents in replies]
    steps.end("loading")
    result, _ = chosen.aggregate_train(1, messages)
    steps.end("aggregating")
    return result["t0"].numpy(), messages


def main() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1  # or no message can be made
    serve(reply, aggregate)


if __name__ == "__main__":
    main()
