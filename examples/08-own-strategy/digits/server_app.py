"""A server that has digits of its own: half of them say how much each cluster counts, the other half when the model is good enough."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits import model

HELDOUT = Path(__file__).parents[1] / "data" / "heldout.npz"

Digits = tuple[np.ndarray, np.ndarray]

app = ServerApp()


class ByAccuracy(FedAvg):
    """Averages the clusters' models, each by what it recognises of the server's digits, until the mean recognises enough."""

    def __init__(self, weigh_by: Digits, judge_by: Digits, goal: float) -> None:
        super().__init__(fraction_evaluate=0.0, weighted_by_key="worth")
        self.weigh_by, self.judge_by, self.goal = weigh_by, judge_by, goal
        self.is_done = False

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Nobody is asked any more when the goal is reached."""
        return [] if self.is_done else super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """FedAvg weighs by a number in the reply, usually the cluster's own; here the server writes it."""
        replies = [reply for reply in replies if reply.has_content()]
        for reply in replies:
            accuracy = model.accuracy(reply.content["arrays"].to_numpy_ndarrays(), *self.weigh_by)
            reply.content["metrics"]["worth"] = accuracy**2  # squared, so that who has learnt nothing hardly counts
            print(f"round {server_round}: node {reply.metadata.src_node_id} recognises {accuracy:.3f}", flush=True)
        return super().aggregate_train(server_round, replies)

    def judge(self, server_round: int, arrays: ArrayRecord) -> MetricRecord:
        """The mean's accuracy, on digits that have neither trained nor weighed it."""
        accuracy = model.accuracy(arrays.to_numpy_ndarrays(), *self.judge_by)
        self.is_done = accuracy >= self.goal
        return MetricRecord({"accuracy": accuracy})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train until the goal is reached, for so many rounds at most."""
    images, labels = model.load(HELDOUT)
    strategy = ByAccuracy((images[::2], labels[::2]), (images[1::2], labels[1::2]), context.run_config["goal"])
    rounds = context.run_config["num-server-rounds"]
    strategy.start(grid, ArrayRecord(model.initial()), num_rounds=rounds, evaluate_fn=strategy.judge)
