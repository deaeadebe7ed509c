"""Arrays of many kinds, and a client that does what it is told, good or bad."""

import os
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

server, client = ServerApp(), ClientApp()


@server.main()
def main(grid, context):
    kinds = {kind: Array(np.ones((), kind)) for kind in ("float64", "float16", "int64", "uint8", "bool")}
    FedAvg().start(grid, ArrayRecord({"weight": Array(np.zeros((2, 3), np.float32)), **kinds}))


@client.train()
def train(message, context):
    behave = context.run_config["behave"]
    arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
    said = {"num-examples": 4, "round": message.content["config"]["server-round"]}
    arrays["weight"] = arrays["weight"] + np.random.default_rng(said["round"]).random((2, 3), np.float32)
    if behave == "raise":
        raise RuntimeError("no column of that name")
    if behave == "die":
        os.kill(os.getpid(), 9)
    if behave == "hang":
        time.sleep(3600)
    if behave == "diverge":
        arrays["float16"] = np.full((), np.nan, np.float16)
    if behave == "reshape":
        arrays["weight"] = arrays["weight"].reshape(3, 2)
    if behave == "forget":
        del said["num-examples"]
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    return Message(RecordDict({"arrays": record, "metrics": MetricRecord(said)}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    total = float(message.content["arrays"]["weight"].numpy().sum())
    said = {"num-examples": 4, "data": int(context.node_config["data-path"] == "/data"), "sum": total}
    return Message(RecordDict({"metrics": MetricRecord(said)}), reply_to=message)
