"""What a cluster does: train and evaluate the model that it is sent on its own digits."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from mnist_app import task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for a few epochs."""
    net, config = _net(message), message.content["config"]
    images, labels = task.load_digits(context.node_config["data-path"], "train")
    loss = task.train(
        net,
        images,
        labels,
        epochs=context.run_config["local-epochs"],
        batch_size=context.run_config["batch-size"],
        learning_rate=config["learning-rate"],
        seed=1000 * config["server-round"] + context.node_config["partition-id"],
    )
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(labels)})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure the model on the digits that this cluster does not train on."""
    images, labels = task.load_digits(context.node_config["data-path"], "validation")
    loss, accuracy = task.evaluate(_net(message), images, labels)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(labels)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _net(message: Message) -> task.Net:
    net = task.Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net
