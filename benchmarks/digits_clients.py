"""The app's side of the noise benchmark: the first example's network, trained on the digits of whichever cluster it is asked for.

A question is a line of JSON on the input, the answer a line on the output. A model is a file of float32 in the network's order.
Asked to `train`, it trains the model on one cluster's digits, and puts the result `into` a file; of no model, it puts a first one there.
Each of so many clusters gets as many digits as it is to have of the 4,000 that are not held out, whatever their labels.
Asked to judge a model, it answers the share of the digits held out that is recognised.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mnist_app import task

__all__ = ["main"]

EPOCHS = 3
"""As in the example."""

CLUSTERS = ("amsterdam", "berlin", "copenhagen", "dublin")
"""Whose digits they are in the example."""


def load(net: task.Net, model: Path) -> None:
    parts = torch.from_numpy(np.fromfile(model, np.float32)).split([tensor.numel() for tensor in net.state_dict().values()])
    net.load_state_dict({name: part.reshape(old.shape) for (name, old), part in zip(net.state_dict().items(), parts, strict=True)})


def save(net: task.Net, model: Path) -> None:
    np.concatenate([tensor.flatten().numpy() for tensor in net.state_dict().values()]).tofile(model)


def train(net: task.Net, images: torch.Tensor, labels: torch.Tensor, asked: dict[str, Any]) -> None:
    own = slice(asked["cluster"], asked["clusters"] * asked["each"], asked["clusters"])
    task.train(net, images[own], labels[own], epochs=EPOCHS, batch_size=asked["batch"], learning_rate=asked["rate"], seed=asked["seed"])


def main() -> None:
    digits = Path(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed is no answer
    shards = [task.load_digits(str(digits / f"{name}.npz"), part) for name in CLUSTERS for part in ("train", "validation")]
    order = torch.randperm(sum(len(labels) for _, labels in shards), generator=torch.Generator().manual_seed(0))
    images, labels = (torch.cat(parts)[order] for parts in zip(*shards, strict=True))
    with np.load(digits / "heldout.npz") as kept:
        judged = torch.from_numpy(kept["images"]).float().div(255).unsqueeze(1), torch.from_numpy(kept["labels"])
    for line in sys.stdin:
        asked, found = json.loads(line), None
        torch.manual_seed(1)
        net = task.Net()
        if asked["model"]:
            load(net, Path(asked["model"]))
        if "train" in asked:
            train(net, images, labels, asked["train"])
        if "into" in asked:
            save(net, Path(asked["into"]))
        else:
            _, found = task.evaluate(net, *judged)
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
