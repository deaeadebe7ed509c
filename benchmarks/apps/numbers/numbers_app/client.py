"""What a client does: it moves every number half the way to a value of its own, and measures the first of them.

Clients have different values and different weights, so the mean is none of theirs, and a reply that counts twice or not at all shows.
"""

import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return every number, moved."""
    time.sleep(float(context.run_config["pause-seconds"]))
    place = int(context.node_config["partition-id"]) + 1
    half, step = np.float32(0.5), np.float32(place / 3)
    moved = [half * values + step for values in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict({"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": place, "first": float(moved[0][0])})})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the first number."""
    first = float(message.content["arrays"].to_numpy_ndarrays()[0][0])
    return Message(content=RecordDict({"metrics": MetricRecord({"num-examples": 1, "first": first})}), reply_to=message)
