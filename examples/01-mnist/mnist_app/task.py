"""The model, and what is done with it: training and evaluation on one cluster's digits.

Everything is a function of the model, the digits and the seed: one thread, no other source of chance.
So whichever process trains, however often, the weights come out the same to the last bit.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

torch.set_num_threads(1)  # sums over several threads depend on how many there are
torch.use_deterministic_algorithms(True)


class Net(nn.Module):
    """Two convolutions and two dense layers: 55,178 weights, 221 kB."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.dense1 = nn.Linear(32 * 7 * 7, 32)
        self.dense2 = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        images = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        images = functional.max_pool2d(functional.relu(self.conv2(images)), 2)
        return self.dense2(functional.relu(self.dense1(images.flatten(1))))


def load_digits(path: str, part: str) -> tuple[Tensor, Tensor]:
    """The images, between 0 and 1, and labels of one part ("train", "validation") of a shard.

    The shard is a file, or the only one in a directory: a container has its data mounted as one.
    """
    place = Path(path)
    with np.load(next(place.glob("*.npz")) if place.is_dir() else place) as shard:
        images, labels = shard[f"{part}_images"], shard[f"{part}_labels"]
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels).long()


def train(net: Net, images: Tensor, labels: Tensor, *, epochs: int, batch_size: int, learning_rate: float, seed: int) -> float:
    """Train by stochastic gradient descent; the mean loss over the last epoch."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    net.train()
    for _ in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(labels), generator=order).split(batch_size):
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
    return total / len(labels)


@torch.no_grad()
def evaluate(net: Net, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """The mean loss, and the share of digits that are recognised."""
    net.eval()
    scores = net(images)
    loss = functional.cross_entropy(scores, labels)
    return loss.item(), (scores.argmax(1) == labels).double().mean().item()
