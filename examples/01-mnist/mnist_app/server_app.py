"""What a federation begins with: the first model, the rounds and the strategy."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from mnist_app.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Average the clusters' weights, round after round."""
    torch.manual_seed(context.run_config["seed"])
    FedAvg().start(
        grid,
        ArrayRecord(Net().state_dict()),
        num_rounds=context.run_config["num-server-rounds"],
        train_config=ConfigRecord({"learning-rate": context.run_config["learning-rate"]}),
    )
