"""Small Flower apps: one of each kind of Flower's, that does what its run configuration says, and one with mods."""

__all__ = ["MODS", "OLDER", "PROJECT", "SMALL"]

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
names = "arrays"
"""

SMALL = """
import time
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg

server, client = ServerApp(), ClientApp()

@server.main()
def main(grid, context):
    if context.run_config["behave"] == "raise":
        raise RuntimeError("no database here")
    if context.run_config["behave"] == "query":
        grid.send_and_receive([Message(RecordDict(), node, "query") for node in grid.get_node_ids()])
    if context.run_config["behave"] == "add noise":
        private = DifferentialPrivacyServerSideFixedClipping(FedAvg(), noise_multiplier=1.0, clipping_norm=1.0, num_sampled_clients=2)
        private.start(grid, ArrayRecord([np.zeros(3)]))
    if context.run_config["behave"] != "say nothing":
        first = ArrayRecord([np.arange(3, dtype=np.float32), np.array(7)])
        FedAvg(arrayrecord_key=context.run_config["names"]).start(grid, first, train_config=ConfigRecord({"lr": 0.5, "on": True}))

@client.train()
def train(message, context):
    behave = context.run_config["behave"]
    weights, steps = message.content["arrays"].to_numpy_ndarrays()
    metrics = {"num-examples": 4, "round": message.content["config"]["server-round"], "list": [1, 2]}
    seen = context.state.setdefault("seen", MetricRecord({"times": 0}))
    seen["times"] += 1
    metrics["times"] = seen["times"]
    if behave == "raise":
        raise RuntimeError("no column of that name")
    if behave == "hang":
        time.sleep(3600)
    if behave == "diverge":
        weights = weights * np.nan
    if behave == "reshape":
        weights = weights.reshape(3, 1)
    if behave == "forget":
        del metrics["num-examples"]
    if behave == "return an array":
        return weights
    arrays = ArrayRecord([weights + message.content["config"]["lr"], steps])
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)}), reply_to=message)

@client.evaluate()
def evaluate(message, context):
    there = {"partition": context.node_config["partition-id"], "of": context.node_config["num-partitions"]}
    named = context.node_config["cluster-name"] == "berlin" and context.node_config["data-path"] == "/data"
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 4, "named": int(named), **there})}), reply_to=message)

def initial_model(run_config):
    return {"w": np.ones(2), "b": np.zeros(1)}
"""

OLDER = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

class Client(NumPyClient):
    def get_parameters(self, config):
        return [np.arange(3, dtype=np.float32)]
    def fit(self, parameters, config):
        return [parameters[0] + np.float32(config["lr"])], 4, {"loss": 0.25}
    def evaluate(self, parameters, config):
        return 0.5, 6, {"accuracy": 0.75}

client = ClientApp(client_fn=lambda context: Client().to_client())
strategy = FedAvg(on_fit_config_fn=lambda server_round: {"lr": 1.0})
server = ServerApp(server_fn=lambda context: ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=1)))
"""

MODS = """
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, arrays_size_mod, fixedclipping_mod, message_size_mod
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

server = ServerApp()
client = ClientApp(mods=[message_size_mod, arrays_size_mod, LocalDpMod(0.25, sensitivity=0.0, epsilon=1.0, delta=0.1), fixedclipping_mod])

@server.main()
def main(grid, context):
    FedAvg().start(grid, ArrayRecord([np.zeros(4, np.float32)]), train_config=ConfigRecord({"clipping_norm": 0.5}))

@client.train()
def train(message, context):
    moved = [array + np.float32(3) for array in message.content["arrays"].to_numpy_ndarrays()]
    return Message(RecordDict({"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 4})}), reply_to=message)
"""
