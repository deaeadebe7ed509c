"""Small Flower apps with servers of their own, written into a directory as a user would write them."""

from pathlib import Path

__all__ = ["NEWER", "OLDER", "PRIVATE", "SECRET", "small_app"]

PROJECT = """
[project]
name = "small"
version = "1"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "small:server"
clientapp = "small:client"
[tool.flwr.app.config]
behave = "well"
rounds = 2
"""

NEWER = """
import os
import random
import sys
import time
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

server, client = ServerApp(), ClientApp()

class Halving(FedAvg):
    "Half of the mean, and a bonus for each client that did not answer."

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        self.errors = [reply.error.reason for reply in replies if reply.has_error()]
        arrays, metrics = super().aggregate_train(server_round, replies)
        halved = ArrayRecord([array.numpy() * np.float32(0.5) + np.float32(len(self.errors)) for array in arrays.values()])
        return halved, metrics

def judge(server_round, arrays):
    return MetricRecord({"central": float(arrays.to_numpy_ndarrays()[0].sum()), "centrally_judged": server_round})

@server.main()
def main(grid, context):
    print("the server begins", os.getpid(), flush=True)
    behave = context.run_config["behave"]
    if behave == "raise":
        raise RuntimeError("no licence for this server")
    if behave == "exit":
        print("what a pity", flush=True)
        os._exit(9)
    if behave == "query":
        messages = [
            Message(RecordDict({"ask": ConfigRecord({"secret": bytes([node]), "list": [b"a", b""], "on": True})}), node, "query.count")
            for node in grid.get_node_ids()
        ]
        ids = list(grid.push_messages(messages))
        replies = []
        while len(replies) < len(messages):
            time.sleep(0.05)
            replies += grid.pull_messages(ids)
        context.state["counts"] = ArrayRecord([np.array(sorted(reply.content["count"]["n"] for reply in replies))])
        return
    first = [np.random.standard_normal(4).astype(np.float32), np.array([random.random()], np.float32)]
    strategy = Halving(fraction_train=0.7 if behave == "sample" else 1.0, min_train_nodes=2)
    strategy.start(grid, ArrayRecord(first), num_rounds=context.run_config["rounds"], evaluate_fn=judge)

@client.train()
def train(message, context):
    if context.run_config["behave"] == "refuse" and context.node_config["partition-id"] == 1:
        raise RuntimeError("no data today")
    if context.run_config["behave"] in ("slow", "sample"):
        time.sleep(0.5)
    seen = context.state.setdefault("seen", MetricRecord({"times": 0}))
    seen["times"] += 1
    weights = [values + np.float32(context.node_config["partition-id"]) for values in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"num-examples": 4, "times": seen["times"], "list": [1, 2]})
    return Message(RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=message)

@client.evaluate()
def evaluate(message, context):
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 4, "loss": 0.5})}), reply_to=message)

@client.query("count")
def count(message, context):
    ask = message.content["ask"]
    assert (ask["list"], ask["on"], context.node_id) == ([b"a", b""], True, ask["secret"][0])
    return Message(RecordDict({"count": MetricRecord({"n": context.node_config["partition-id"]})}), reply_to=message)
"""

PRIVATE = """
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg

server, client = ServerApp(), ClientApp()

@server.main()
def main(grid, context):
    inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    strategy = DifferentialPrivacyClientSideFixedClipping(inner, noise_multiplier=1e-6, clipping_norm=1.0, num_sampled_clients=3)
    strategy.start(grid, ArrayRecord([np.zeros(4, np.float32)]), num_rounds=1)

@client.train(mods=[fixedclipping_mod])
def train(message, context):
    weights = [values + np.float32(1 + context.node_config["partition-id"]) for values in message.content["arrays"].to_numpy_ndarrays()]
    return Message(RecordDict({"arrays": ArrayRecord(weights), "metrics": MetricRecord({"num-examples": 4})}), reply_to=message)
"""

_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

class Client(NumPyClient):
    def __init__(self, position):
        self.position = position
    def fit(self, parameters, config):
        return [values + np.float32(self.position) for values in parameters], 4, {}
    def evaluate(self, parameters, config):
        return 0.5, 6, {"accuracy": 0.75}

def client_of(context):
    return Client(context.node_config["partition-id"]).to_client()

strategy = FedAvg(min_fit_clients=3, min_available_clients=3, initial_parameters=ndarrays_to_parameters([np.zeros(5, np.float32)]))
"""

OLDER = (
    _CLIENT
    + """
client = ClientApp(client_fn=client_of)
server = ServerApp(server_fn=lambda context: ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2)))
"""
)

SECRET = (
    _CLIENT
    + """
from flwr.client.mod import secaggplus_mod
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow

client = ClientApp(client_fn=client_of, mods=[secaggplus_mod])
server = ServerApp()

@server.main()
def main(grid, context):
    legacy = LegacyContext(context=context, config=ServerConfig(num_rounds=1), strategy=strategy)
    DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2))(grid, legacy)
"""
)


def small_app(directory: Path, code: str) -> Path:
    """An app of this code."""
    directory.mkdir()
    (directory / "pyproject.toml").write_text(PROJECT)
    (directory / "small.py").write_text(code)
    return directory
