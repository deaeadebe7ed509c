"""NVFlare's side of the aggregation benchmarks: its weighted aggregation helper, on numpy arrays. See `peering`.

Replies are shareables as its own serialization (FOBS) writes them. Loading reads them; nothing is verified.
The helper weighs by the number of examples. Its own large-object streaming, which replaces FOBS between processes, is left out.
"""

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper
from nvflare.app_common.decomposers import common_decomposers
from nvflare.fuel.utils import fobs
from peering import Steps, serve

__all__ = ["main"]


def reply(number: int, tensors: dict[str, np.ndarray]) -> bytes:
    data: bytes = fobs.dumps(DXO(DataKind.WEIGHTS, data=tensors, meta={"examples": 10 + number}).to_shareable())
    return data


def aggregate(strategy: str, replies: list[bytes], steps: Steps) -> tuple[np.ndarray, object]:
    assert strategy == "fedavg", f"this side knows no {strategy}"
    updates = [from_shareable(fobs.loads(data)) for data in replies]
    steps.end("loading")
    helper = WeightedAggregationHelper()
    for number, update in enumerate(updates):
        helper.add(update.data, update.get_meta_prop("examples"), f"c{number:02}", 1)
    result = helper.get_result()
    steps.end("aggregating")
    return result["t0"], updates


def main() -> None:
    flare_decomposers.register()
    common_decomposers.register()
    serve(reply, aggregate)


if __name__ == "__main__":
    main()
