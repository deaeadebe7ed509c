"""OpenFL's side of the aggregation benchmarks: its weighted average over its tensor database. See `peering`.

Replies are serialized protobuf messages of named tensors, uncompressed.
Loading parses them, decodes the tensors and puts them into a new database, as its aggregator does; nothing is verified.
Aggregating asks the database for every tensor's average.
What the aggregator does with that afterwards (deltas, compressing it again) is left out.
"""

import numpy as np
from openfl.databases import TensorDB
from openfl.interface.aggregation_functions import WeightedAverage
from openfl.pipelines import NoCompressionPipeline, TensorCodec
from openfl.protocols import base_pb2, utils
from openfl.utilities import TensorKey, change_tags
from peering import Steps, serve

__all__ = ["main"]

CODEC = TensorCodec(NoCompressionPipeline())
TRAINED = ("trained",)
ORIGIN, ROUND = "aggregator", 1

Reply = tuple[float, list[bytes]]
"""The number of examples, and a message for each tensor."""


def reply(number: int, tensors: dict[str, np.ndarray]) -> Reply:
    messages = []
    for name, tensor in tensors.items():
        key, data, metadata = CODEC.compress(TensorKey(name, f"c{number:02}", ROUND, False, TRAINED), tensor)
        messages.append(utils.construct_named_tensor(key, data, metadata, lossless=True).SerializeToString())
    return 10.0 + number, messages


def decoded(message: bytes, collaborator: str) -> tuple[TensorKey, np.ndarray]:
    named = base_pb2.NamedTensor.FromString(message)
    metadata = [
        {"int_to_float": each.int_to_float, "int_list": each.int_list, "bool_list": each.bool_list} for each in named.transformer_metadata
    ]
    key = TensorKey(named.name, ORIGIN, named.round_number, named.report, tuple(named.tags))
    key, array = CODEC.decompress(key, data=named.data_bytes, transformer_metadata=metadata, require_lossless=True)
    return key._replace(tags=change_tags(key.tags, add_field=collaborator)), array


def aggregate(strategy: str, replies: list[Reply], steps: Steps) -> tuple[np.ndarray, object]:
    assert strategy == "fedavg", f"this side knows no {strategy}"
    database, names = TensorDB(), dict[str, None]()
    for number, (_, messages) in enumerate(replies):
        arrays = dict(decoded(message, f"c{number:02}") for message in messages)
        database.cache_tensor(arrays)
        names.update(dict.fromkeys(key.tensor_name for key in arrays))
    steps.end("loading")
    examples = sum(each for each, _ in replies)
    weights = {f"c{number:02}": each / examples for number, (each, _) in enumerate(replies)}
    average = WeightedAverage()
    result = {name: database.get_aggregated_tensor(TensorKey(name, ORIGIN, ROUND, False, TRAINED), weights, average) for name in names}
    steps.end("aggregating")
    return result["t0"], database


def main() -> None:
    serve(reply, aggregate)


if __name__ == "__main__":
    main()
