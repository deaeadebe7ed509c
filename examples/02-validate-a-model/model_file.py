"""Find a run's model on a disk and put it into a network; where that cannot be, say so in one sentence.

A notebook shows whole tracebacks, which help nobody whose file is at another place: `Unusable` shows its sentence and nothing else.
"""

import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

NAMED_MAX = 3
"""How many tensors or files a sentence names; a network may have thousands."""


class Unusable(Exception):
    """The file is not what it should be. The message says why, and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [str(self)]


def find(place: Path) -> Path:
    """The model's file: `place` itself, or in a directory `model.safetensors`, or the only file that ends so."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise Unusable(
            f"there is nothing at {place}; set MODEL to a file of `fedplane model RUN -o FILE`, or to the directory that it is in"
        )
    found = sorted(place.glob("*.safetensors"))
    if place / "model.safetensors" in found:
        return place / "model.safetensors"
    if not found:
        raise Unusable(f"{place} has no file that ends in .safetensors; has the run completed? `fedplane model RUN -o FILE` downloads one")
    if len(found) > 1:
        raise Unusable(f"{place} has {len(found)} models, {_some([path.name for path in found])}; set MODEL to one of them")
    return found[0]


def note(model: Path) -> dict[str, Any]:
    """What is written down beside the model about its run: a manifest, as `fedplane keep` writes it, or the summary of a demo."""
    name = "manifest.json" if model.name == "model.safetensors" else f"{model.stem}.manifest.json"
    for path, read in (model.with_name(name), _manifest), (model.with_name("summary.json"), _summary):
        if path.is_file():
            try:
                return read(json.loads(path.read_bytes()), model)
            except (ValueError, KeyError, TypeError) as error:
                raise Unusable(
                    f"{path} says nothing that is understood of a run ({error!r}); move it away, or keep the model again"
                ) from error
    return {}


def _manifest(said: Any, model: Path) -> dict[str, Any]:
    size, origin = model.stat().st_size, said["origin"]
    if said["bytes"] != size:
        raise Unusable(
            f"{model} has {size} bytes and its manifest is of a file of {said['bytes']}; keep the model again with `fedplane keep`"
        )
    return {
        "run": origin["run"],
        "strategy": origin["strategy"]["name"],
        "training rounds": f"{origin['training_round']} of {origin['training_rounds']}",
        "clusters": ", ".join(origin["members"]),
        "measured there": ", ".join(f"{name} {value:.3f}" for name, value in origin["metrics"].items()),
    }


def _summary(said: Any, _: Path) -> dict[str, Any]:
    return {
        "run": said["run"],
        "training rounds": said["rounds"],
        "clusters": ", ".join(said["participants"]),
        "accuracy": said["accuracy"],
    }


def load(net: torch.nn.Module, model: Path) -> None:
    """Fill the network with the model's tensors, which must be the network's own, by name and shape."""
    try:
        tensors = load_file(model)
    except (SafetensorError, OSError) as error:
        raise Unusable(f"{model} cannot be read as safetensors ({error}); download it again with `fedplane model`") from error
    wanted = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    there = {name: list(tensor.shape) for name, tensor in tensors.items()}
    odd = [_said(name, there.get(name), wanted.get(name)) for name in sorted(wanted | there) if there.get(name) != wanted.get(name)]
    if odd:
        raise Unusable(f"{model} is the model of another app: {_some(odd)}; set MODEL to a model of examples/01-mnist")
    net.load_state_dict(tensors)


def digits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The images, between 0 and 1, and labels that `shards.py` kept for judging."""
    try:
        with np.load(path) as kept:
            images, labels = kept["images"], kept["labels"]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise Unusable(f"{path} has no digits to judge by ({error}); `python shards.py data` in examples/01-mnist makes them") from error
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels)


def _said(name: str, there: list[int] | None, wanted: list[int] | None) -> str:
    if there is None:
        return f"it lacks {name}"
    return f"{name} has shape {there}" + (f" and not {wanted}" if wanted is not None else " and is unknown to the network")


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
