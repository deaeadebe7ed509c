"""What a cluster does: train on its own digits."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits import model

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A few steps from the model that was sent."""
    images, labels = model.load(context.node_config["data-path"], "train_")
    arrays = model.train(
        message.content["arrays"].to_numpy_ndarrays(),
        images,
        labels,
        steps=context.run_config["local-steps"],
        learning_rate=context.run_config["learning-rate"],
    )
    metrics = MetricRecord({"num-examples": len(labels)})
    return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)
