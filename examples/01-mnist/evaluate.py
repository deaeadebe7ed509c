"""Judge a model on digits that no cluster has trained on.

    python evaluate.py MODEL.safetensors HELDOUT.npz

prints one line of JSON: accuracy (the share of digits recognised), loss, digits (how many were judged).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from mnist_app import task


def load_model(path: Path) -> task.Net:
    """The model in a safetensors file, all of whose tensors are 32-bit floats."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    state = {}
    for name, tensor in header.items():
        first, last = tensor["data_offsets"]
        values = np.frombuffer(content[begin + first : begin + last], np.float32)
        state[name] = torch.from_numpy(values.copy()).reshape(tensor["shape"])
    net = task.Net()
    net.load_state_dict(state)
    return net


def main(model: Path, heldout: Path) -> None:
    """Print the judgement."""
    with np.load(heldout) as digits:
        images = torch.from_numpy(digits["images"]).float().div(255).unsqueeze(1)
        labels = torch.from_numpy(digits["labels"])
    loss, accuracy = task.evaluate(load_model(model), images, labels)
    print(json.dumps({"accuracy": accuracy, "loss": loss, "digits": len(labels)}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python evaluate.py MODEL.safetensors HELDOUT.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
