"""What the app's own server would do; fedplane takes the first arrays and configuration from it."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

WEIGHTS = 250_000


@app.main()
def main(grid: Grid, context: Context) -> None:
    random = np.random.default_rng(1)
    initial = [random.standard_normal(WEIGHTS).astype(np.float32), random.standard_normal((3, 5)).astype(np.float32)]
    FedAvg(min_available_nodes=2).start(
        grid=grid, initial_arrays=ArrayRecord(initial), num_rounds=2, train_config=ConfigRecord({"lr": 0.25})
    )
