"""Write a model so that a model server loads it: a network's weights as ONNX, in a directory that is the version.

    serving/            the address of a repository of models, as Triton wants it
        mnist/          the address of one model, as OpenVINO Model Server wants it
            1/model.onnx
            2/model.onnx

The safetensors file alone cannot be served: it has weights and no computation. That is in the app, hence a class of the app's is needed.
"""

import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from safetensors.torch import load_file


@dataclass(frozen=True)
class Network:
    """A torch module by the name of its class, `MODULE:CLASS`, and the shape of one input, without the batch."""

    name: str
    shape: tuple[int, ...]

    def load(self, weights: Path) -> torch.nn.Module:
        """The network with these weights, which must be its own, all of them."""
        module, _, class_ = self.name.partition(":")
        net: torch.nn.Module = getattr(import_module(module), class_)()
        net.load_state_dict(load_file(weights))
        return net.eval()


def write_onnx(network: Network, weights: Path, version: Path) -> None:
    """Export the network into the version's directory, which appears whole or not at all, since a server may be looking."""
    if version.exists():
        return
    partial = version.parents[1].with_name(f"partial-{version.parent.name}-{version.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    two = torch.zeros(2, *network.shape)  # an exporter takes a batch of one for a constant
    torch.onnx.export(
        network.load(weights),
        (two,),
        partial / "model.onnx",
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    version.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(version)
