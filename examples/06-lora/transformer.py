"""A transformer of 17,962 parameters that reads digits of 8 x 8 pixels, a row a token, and what LoRA adds to it.

LoRA (Hu et al. 2021) leaves a layer's weights as they are and adds the product of two thin matrices to them, which alone are trained.
The second begins with zeros, so at first nothing is changed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, BLOCKS, ROWS = 32, 4, 2, 8
RANK = 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.join = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.think = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        count, rows, _ = tokens.shape
        split = self.attend(self.before(tokens)).reshape(count, rows, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(count, rows, WIDTH)
        tokens = tokens + self.join(seen)
        return tokens + self.think(self.between(tokens))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(ROWS, WIDTH)
        self.places = nn.Parameter(torch.randn(ROWS, WIDTH) / WIDTH**0.5)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(images) + self.places).mean(1))


class Lora(nn.Module):
    """A linear layer, frozen, with a change of low rank."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(RANK, layer.in_features) / layer.in_features**0.5)
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens) + tokens @ self.lora_a.T @ self.lora_b.T


def adapted(model: Transformer) -> Transformer:
    """The model with everything frozen but its head, and with LoRA in its attention."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    for block in model.blocks:
        block.attend, block.join = Lora(block.attend), Lora(block.join)
    return model


def fit(model: Transformer, images: Tensor, digits: Tensor, *, epochs: int, learning_rate: float) -> None:
    """Train what is not frozen."""
    optimizer = torch.optim.Adam((each for each in model.parameters() if each.requires_grad), lr=learning_rate)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(digits)).split(32):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), digits[batch]).backward()
            optimizer.step()


@torch.no_grad()
def judged(model: Transformer, images: Tensor, digits: Tensor) -> tuple[float, float]:
    """The loss, and the share of digits that are recognised."""
    scores = model.eval()(images)
    return functional.cross_entropy(scores, digits).item(), (scores.argmax(1) == digits).double().mean().item()
