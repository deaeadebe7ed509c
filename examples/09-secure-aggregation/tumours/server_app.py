"""A server that averages what it cannot read: Flower's SecAgg+ instead of its plain training, and FedAvg as ever."""

import numpy as np
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Two of the three hospitals are enough to take the masks off the sum, so one may drop out on the way."""
    strategy = FedAvg(min_fit_clients=3, min_available_clients=3, initial_parameters=ndarrays_to_parameters([np.zeros(31)]))
    config = ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    workflow = DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2))
    workflow(grid, LegacyContext(context=context, config=config, strategy=strategy))
