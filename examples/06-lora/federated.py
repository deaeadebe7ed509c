"""Digits that lie on their side, for a transformer that has learnt to read upright ones. Only LoRA's matrices and the head travel."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformer import Transformer, adapted, fit, judged

CONFIG = {"learning-rate": 0.01, "epochs": 5}
TRAVELS = ("*.lora_a", "*.lora_b", "head.*")


def initial(config):
    """The same base on every cluster: from a file that each of them has, and that never travels."""
    base = Transformer()
    base.load_state_dict(torch.load(Path(__file__).with_name("base.pt"), weights_only=True))
    return adapted(base)


def train(model, data, config):
    images, digits = load(data, "train")
    fit(model, images, digits, epochs=config["epochs"], learning_rate=config["learning-rate"])
    return {"num-examples": len(digits)}


def evaluate(model, data, config):
    images, digits = load(data, "validation")
    loss, accuracy = judged(model, images, digits)
    return {"num-examples": len(digits), "loss": loss, "accuracy": accuracy}


def load(path: str, part: str) -> tuple[Tensor, Tensor]:
    """The images and what they show, of one part ("train", "validation") of an office's digits."""
    with np.load(path) as shard:
        return torch.from_numpy(shard[part]), torch.from_numpy(shard[f"{part}_digits"])
