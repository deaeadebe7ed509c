"""A model that has tensors of many kinds, and an app that does what it is told, good or bad."""

import os
import time

import torch

CONFIG = {"behave": "well"}


class Kinds(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, 3))
        for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool):
            self.register_buffer(f"a {kind}".replace("torch.", ""), torch.ones((), dtype=kind))


def initial(config):
    return Kinds()


def train(model, data, config):
    behave, weight = config["behave"], model.weight.data
    half = model.get_buffer("a bfloat16")
    weight += torch.rand_like(weight)
    half *= 1.5
    if behave == "raise":
        raise RuntimeError("no column of that name")
    if behave == "die":
        os.kill(os.getpid(), 9)
    if behave == "hang":
        time.sleep(3600)
    if behave == "diverge":
        half *= float("nan")
    if behave == "reshape":
        model.weight = torch.nn.Parameter(weight.reshape(3, 2))
    return {"round": config["round"]} if behave == "forget" else {"round": config["round"], "num-examples": 4}


def evaluate(model, data, config):
    return {"num-examples": 4, "data": data == "/data", "sum": model.weight.detach().sum()}
