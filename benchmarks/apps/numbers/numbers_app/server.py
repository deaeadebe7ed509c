"""What the server does: FedAvg over numbers that chance begins with, the same chance every time.

A SuperLink keeps neither a round's time nor the model. So the app itself writes both, if it is told a folder for its record.
"""

import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

TENSORS = 4


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Average for as many rounds as asked for."""
    told = context.run_config
    record = Path(str(told["record"])) if told["record"] else None

    def note(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Flower calls this before the first round and after each."""
        if record is not None:
            with (record / "times").open("a") as file:
                file.write(f"{time.time()}\n")
        return None

    begun = _begin(int(told["kilobytes"]))
    result = FedAvg(min_available_nodes=2).start(grid, begun, num_rounds=int(told["rounds"]), evaluate_fn=note)
    if record is not None:
        for name, array in result.arrays.items():
            (record / f"{name}.npy").write_bytes(array.data)  # as Flower holds it: a copy would be memory that is not Flower's
        (record / "done").touch()


def _begin(kilobytes: int) -> ArrayRecord:
    chance = np.random.default_rng(seed=1)
    return ArrayRecord([chance.standard_normal(kilobytes * 1_000 // 4 // TENSORS, np.float32) for _ in range(TENSORS)])
