"""Is a tumour benign? Logistic regression in PyTorch that does not tell whether a certain tumour was among those it has seen."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {"learning-rate": 0.5, "epochs": 5, "batch-size": 32}

# How large each measurement is, as a power of e, from what is published of such measurements and not from a hospital's tumours.
ABOUT = np.array([
    3, 3, 5, 6, -2, -2, -3, -3, -2, -3,  # of ten features of a nucleus, the mean
    -1, 0, 1, 4, -4, -3, -3, -4, -3, -4,  # the standard error
    3, 3, 5, 7, -2, -2, -2, -3, -1, -2,  # the worst
])  # fmt: skip


def initial(config):
    """All weights are zeros, for the first model is made without noise and must not depend on anybody's data."""
    model = nn.Linear(30, 1)
    for weights in model.parameters():
        nn.init.zeros_(weights)
    return model


def train(model, data, config, private):
    tumours = load(data, "train")
    optimizer = torch.optim.SGD(model.parameters(), lr=config["learning-rate"])
    loader = DataLoader(tumours, config["batch-size"])
    model, optimizer, loader = private(model, optimizer, loader, epochs=config["epochs"])
    for _ in range(config["epochs"]):
        for measured, benign in loader:
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(measured), benign).backward()
            optimizer.step()
    return {"num-examples": len(tumours)}


@torch.no_grad()
def evaluate(model, data, config):
    measured, benign = load(data, "validation").tensors
    said = model(measured)
    loss = functional.binary_cross_entropy_with_logits(said, benign)
    return {"num-examples": len(benign), "loss": loss, "accuracy": ((said > 0) == (benign > 0)).double().mean()}


def load(path: str, part: str) -> TensorDataset:
    """The measurements' logarithms, about as large as one, and whether benign, of one part ("train", "validation")."""
    with np.load(path) as shard:
        measured, benign = np.log(shard[part] + 0.01) - ABOUT, shard[f"{part}_benign"]
    return TensorDataset(torch.from_numpy(measured).float(), torch.from_numpy(benign).float().unsqueeze(1))
