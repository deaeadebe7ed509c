"""Train the transformer that is to be fine-tuned, and deal out the digits that it cannot read yet.

    python prepare.py OUT_DIR

base.pt, beside this file, is a transformer that has learnt half of scikit-learn's 1,797 digits as they are.
OUT_DIR gets the other half, in white on black as in black on white before and lying on their side, dealt out to three post offices.
The seed is fixed: everybody gets the same.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from transformer import Transformer, fit, judged

OFFICES = ("ghent", "hamar", "izola")
SEED = 1
VALIDATION_SHARE = 0.25


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # sums over several threads depend on how many there are
    torch.manual_seed(SEED)
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(digits))
    images, digits = torch.from_numpy(images[order] / 16).float().reshape(-1, 8, 8), torch.from_numpy(digits[order])
    half = len(digits) // 2
    model = Transformer()
    fit(model, images[:half], digits[:half], epochs=20, learning_rate=0.003)
    torch.save(model.state_dict(), Path(__file__).with_name("base.pt"))

    turned = 1 - images[half:].transpose(1, 2)
    for office, part in zip(OFFICES, torch.arange(half, len(digits)).chunk(len(OFFICES)), strict=True):
        np.savez(directory / f"{office}.npz", **shard(turned[part - half].numpy(), digits[part].numpy()))
    upright, lying = (judged(model, shown, digits[half:])[1] for shown in (images[half:], turned))
    print(f"of 100 digits as they are it recognises {upright * 100:.0f}, of 100 on their side {lying * 100:.0f}")


def shard(images: np.ndarray, digits: np.ndarray) -> dict[str, np.ndarray]:
    cut = int(len(digits) * VALIDATION_SHARE)
    return {"train": images[cut:], "train_digits": digits[cut:], "validation": images[:cut], "validation_digits": digits[:cut]}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python prepare.py OUT_DIR")
    main(Path(sys.argv[1]))
