"""What the server does: FedAvg over a model of zeros, and a line with the time in the file `times` when a round begins and ends."""

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
    elements = int(context.run_config["megabytes"]) * 1_000_000 // 4 // TENSORS
    initial = [np.zeros(elements, np.float32) for _ in range(TENSORS)]
    times = str(context.run_config["times"])

    def note(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Flower calls this before the first round and after each."""
        if times:
            with Path(times).open("a") as file:
                file.write(f"{time.time()}\n")
        return None

    FedAvg(min_available_nodes=2).start(grid, ArrayRecord(initial), num_rounds=int(context.run_config["rounds"]), evaluate_fn=note)
