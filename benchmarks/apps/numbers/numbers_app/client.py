"""What a client does: it adds one to every number, and measures the first of them."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return every number, one larger."""
    moved = [values + np.float32(1) for values in message.content["arrays"].to_numpy_ndarrays()]
    content = RecordDict({"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 1, "first": float(moved[0][0])})})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Return the first number: after so many rounds it is that many."""
    first = float(message.content["arrays"].to_numpy_ndarrays()[0][0])
    return Message(content=RecordDict({"metrics": MetricRecord({"num-examples": 1, "first": first})}), reply_to=message)
