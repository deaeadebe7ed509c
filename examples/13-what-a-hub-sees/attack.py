"""What somebody makes of a change of the first example's network: pictures of the digits it was trained on, and how often each occurred.

Two attacks, by somebody who follows the protocol and looks, and knows the network, the model before the round, and the app.

`restore` is for a change that one step of training has made. Known of such a step:
- The last layer's bias moves up for the labels that occurred, and down for all others (Zhao, Mopuri and Bilen 2020, https://arxiv.org/abs/2001.02610).
- The weights of a dense layer move by multiples of its inputs, and the bias says by which ones.
  So if there was one example only, dividing gives the inputs (Phong et al. 2017, https://eprint.iacr.org/2017/715).
- What pictures cause the same change is found by trying: gradients are compared, and the pictures improved
  (Zhu, Liu and Han 2019, https://arxiv.org/abs/1906.08935; by the angle and with smooth pictures: Geiping et al. 2020, https://arxiv.org/abs/2003.14053).

`guess_shares` is for a change that any training has made: the trained network prefers the labels that it has seen often.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS, STEP = 100, 0.2
"""How often pictures are improved, and how fast at first. Three times as often makes them a little clearer."""

SMOOTHNESS = 0.01
"""How much roughness counts beside differing gradients."""

Change = Mapping[str, Tensor]


def changed(before: nn.Module, after: nn.Module) -> np.ndarray:
    """What training did to a network: one vector of all weights."""
    old, new = before.state_dict(), after.state_dict()
    return np.concatenate([(new[name] - old[name]).flatten().numpy() for name in old])


def by_tensor(net: nn.Module, change: np.ndarray) -> Change:
    """The vector cut into the network's tensors, by name."""
    weights = net.state_dict()
    parts = torch.from_numpy(np.asarray(change, np.float32)).split([tensor.numel() for tensor in weights.values()])
    return {name: part.reshape(tensor.shape) for (name, tensor), part in zip(weights.items(), parts, strict=True)}


def restore(net: nn.Module, change: np.ndarray, count: int = 1) -> tuple[Tensor, Tensor]:
    """So many pictures, and their labels, that one step of training would have changed the network by: the best that was found."""
    parts = by_tensor(net, change)
    labels = parts["dense2.bias"].argsort(descending=True)[:count]
    wanted = [-parts[name].flatten() for name, _ in net.named_parameters()]
    inputs = _inputs(parts) if count == 1 else None
    pictures = torch.rand((count, 1, 28, 28), generator=torch.Generator().manual_seed(0)).mul(0.3).requires_grad_()
    optimizer = torch.optim.Adam([pictures], lr=STEP)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = _difference(net, pictures, labels, wanted) + SMOOTHNESS * _roughness(pictures)
        if inputs is not None:
            loss = loss + functional.mse_loss(_convolved(net, pictures), inputs, reduction="sum") / inputs.square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            pictures.clamp_(0, 1)
    return pictures.detach()[:, 0], labels


def guess_shares(net: nn.Module, change: np.ndarray, images: Tensor) -> np.ndarray:
    """How often each label occurred where the network was trained: what it takes digits for that come all equally often."""
    trained = type(net)()
    trained.load_state_dict({name: net.state_dict()[name] + moved for name, moved in by_tensor(net, change).items()})
    with torch.no_grad():
        return trained(images).softmax(1).mean(0).numpy()


def likeness(one: Tensor | np.ndarray, other: Tensor | np.ndarray) -> float:
    """The correlation: 1 is the same but for brightness, 0 has nothing to do with it."""
    return float(np.nan_to_num(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]))


def nearest(picture: Tensor, candidates: Tensor) -> int:
    """Which of the candidates the picture is most like."""
    return int(np.argmax([likeness(picture, candidate) for candidate in candidates]))


def _inputs(parts: Change) -> Tensor:
    """What went into the first dense layer, if it was one example: the mean of the quotients, by how sure each is."""
    weight, bias = parts["dense1.weight"].double(), parts["dense1.bias"].double()
    return ((bias @ weight) / (bias @ bias)).float()


def _convolved(net: nn.Module, pictures: Tensor) -> Tensor:
    half = functional.max_pool2d(functional.relu(net.conv1(pictures)), 2)
    return functional.max_pool2d(functional.relu(net.conv2(half)), 2).flatten()


def _difference(net: nn.Module, pictures: Tensor, labels: Tensor, wanted: list[Tensor]) -> Tensor:
    """The angle between the gradient of these pictures and the wanted one, the mean of all tensors."""
    found = torch.autograd.grad(functional.cross_entropy(net(pictures), labels), list(net.parameters()), create_graph=True)
    angles = [1 - functional.cosine_similarity(one.flatten(), other, dim=0) for one, other in zip(found, wanted, strict=True)]
    return torch.stack(angles).mean()


def _roughness(pictures: Tensor) -> Tensor:
    return pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean()
