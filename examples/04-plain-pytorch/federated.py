"""Is a tumour benign? A small network of plain PyTorch: three functions, and nothing that knows of a federation."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CONFIG = {"learning-rate": 0.02, "epochs": 5, "batch-size": 16}


def initial(config):
    """Normalization by what training has seen, then two dense layers: 574 numbers."""
    return nn.Sequential(nn.BatchNorm1d(30, affine=False), nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))


def train(model, data, config):
    measured, benign = load(data, "train")
    optimizer = torch.optim.SGD(model.parameters(), lr=config["learning-rate"], momentum=0.9)
    model.train()
    for _ in range(config["epochs"]):
        for batch in torch.randperm(len(benign)).split(config["batch-size"]):
            optimizer.zero_grad()
            functional.binary_cross_entropy_with_logits(model(measured[batch]), benign[batch]).backward()
            optimizer.step()
    return {"num-examples": len(benign)}


@torch.no_grad()
def evaluate(model, data, config):
    measured, benign = load(data, "validation")
    said = model.eval()(measured)
    loss = functional.binary_cross_entropy_with_logits(said, benign)
    return {"num-examples": len(benign), "loss": loss, "accuracy": ((said > 0) == (benign > 0)).double().mean()}


def load(path: str, part: str) -> tuple[Tensor, Tensor]:
    """The measurements, and whether benign, of one part ("train", "validation") of a hospital's tumours."""
    with np.load(path) as shard:
        return torch.from_numpy(shard[part]).float(), torch.from_numpy(shard[f"{part}_benign"]).float().unsqueeze(1)
