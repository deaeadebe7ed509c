"""Plain PyTorch: `initial` makes a `torch.nn.Module`, and its state_dict is what travels; see `functions` for the app's file.

Every tensor keeps its dtype on its way, so a model of half precision costs half the bytes, in bfloat16 as in float16.
What arrives is read from a safetensors file, which holds numbers only: nothing that anybody sends is ever unpickled.
Where the model computes is the app's business. A module that it has moved to an accelerator is read from there.
How `train` gets noise for local differential privacy: see `private`.
Written against torch 2.13.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import Unanswerable
from .answers import BFLOAT16, Tensors
from .functions import FunctionsApp, Translation, open_functions
from .private import privately

__all__ = ["open_app"]


def open_app(directory: Path) -> FunctionsApp:
    """The app of the directory. Raises Unanswerable."""
    return open_functions(directory, Translation(_take, _put, torch.manual_seed, privately=privately))


def _take(module: Any) -> Tensors:
    if not isinstance(module, torch.nn.Module):
        raise Unanswerable("load-failed", f"initial in federated.py made a {type(module).__name__}; it must make a torch.nn.Module")
    return {name: _array(name, tensor.detach().cpu().contiguous()) for name, tensor in module.state_dict().items()}


def _put(module: torch.nn.Module, tensors: Tensors) -> None:
    module.load_state_dict({name: _tensor(array) for name, array in tensors.items()}, strict=False)


def _array(name: str, tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        array: np.ndarray[Any, np.dtype[Any]] = (tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor).numpy()
    except TypeError as error:
        raise Unanswerable("not-supported", f"tensor {name!r} cannot travel: {error}; give it another dtype") from error
    return array.view(BFLOAT16) if tensor.dtype is torch.bfloat16 else array


def _tensor(array: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
    if array.dtype == BFLOAT16:
        return torch.from_numpy(np.array(array["bfloat16"]).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
