"""What a hospital does: train, and send what it has learnt behind a mask, which `secaggplus_mod` puts on."""

import numpy as np
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import Context

from tumours import model


class Hospital(NumPyClient):
    """A hospital with its tumours in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def fit(self, parameters: list[np.ndarray], config: dict) -> tuple[list[np.ndarray], int, dict]:
        """The weights, and by how many tumours they count."""
        measured, benign = model.load(self.path, "train")
        return [model.train(parameters[0], measured, benign)], len(benign), {}

    def evaluate(self, parameters: list[np.ndarray], config: dict) -> tuple[float, int, dict]:
        """What the federation's model makes of tumours that nobody trains on."""
        measured, benign = model.load(self.path, "validation")
        loss, accuracy = model.judge(parameters[0], measured, benign)
        return loss, len(benign), {"accuracy": accuracy}


def hospital(context: Context) -> Client:
    """The one that the message is for."""
    return Hospital(context.node_config["data-path"]).to_client()


app = ClientApp(client_fn=hospital, mods=[secaggplus_mod])
