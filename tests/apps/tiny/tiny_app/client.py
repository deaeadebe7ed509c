"""What a cluster does. `trouble` is "KIND at CLUSTER" and makes that cluster misbehave in training; `seconds` makes training slow.

`tell` is a directory into which each cluster writes what it was told of its data.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def target(context: Context) -> float:
    return 1.0 + float(context.node_config["partition-id"])


def reply(message: Message, context: Context, arrays, loss: float) -> Message:
    metrics = MetricRecord({"loss": loss, "num-examples": int(10 * target(context))})
    content = {"metrics": metrics} if arrays is None else {"arrays": ArrayRecord(arrays), "metrics": metrics}
    return Message(content=RecordDict(content), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    trouble, _, where = str(context.run_config["trouble"]).partition(" at ")
    time.sleep(float(context.run_config["seconds"]))
    if tell := str(context.run_config["tell"]):
        Path(tell, str(context.node_config["cluster-name"])).write_text(json.dumps(context.node_config["data-path"]))
    weights = message.content["arrays"].to_numpy_ndarrays()
    rate = np.float32(message.content["config"]["lr"])
    moved = [values - rate * (values - np.float32(target(context))) for values in weights]
    if where == context.node_config["cluster-name"]:
        if trouble == "raise":
            raise ValueError("the data has a column too few")
        if trouble == "NaN":
            moved[0][0] = np.nan
        if trouble == "shapes":
            moved[0] = moved[0][1:]
        if trouble == "slow":
            time.sleep(3)
        if trouble == "hang":
            time.sleep(3600)
        if trouble == "exit":
            os._exit(7)
    return reply(message, context, moved, float(np.square(weights[0] - target(context)).mean()))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    weights = message.content["arrays"].to_numpy_ndarrays()
    return reply(message, context, None, float(np.square(weights[0] - target(context)).mean()))
