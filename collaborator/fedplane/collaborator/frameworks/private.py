"""Training a PyTorch module so that no single example can be told from what it has become: DP-SGD, by Opacus.

Each example's gradient is shortened to a clip, and Gaussian noise is added to the sum of a batch, whose examples are drawn by lot
(Abadi et al. 2016, "Deep Learning with Differential Privacy"). Opacus does so, and an accountant of Rényi's divergence says
what (epsilon, delta) it amounts to. Two data sets are neighbours if one has one example more.

An app's `train` is given a `Private`, which it calls once, and then trains what it gets back, with whatever loop it has.
The budget is one cluster's, for all rounds of the run, and every answered question counts, also in a round that is repeated.
What was spent is in a file in the run's directory, so it is known to the next process. It is written before the update can leave.
A cluster without that file counts as if it had taken part in each training round before this one: it may have lost the file.

Opacus draws from PyTorch's generators. On a CPU a seed of theirs has 32 bits whatever it is given, and noise that can be
guessed can be subtracted; so there the generator's whole state, 20,000 bits, comes from the operating system.
It is a Mersenne twister and adds floats, which is less than Opacus' `secure_mode`, for which there is no generator for PyTorch 2.
What an app does beside is not seen here: statistics of its data in its metrics, or in a layer, are not covered.
Written against Opacus 1.6 and torch 2.13.
"""

from __future__ import annotations

import json
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from . import Unanswerable

__all__ = ["Plain", "Private", "privately"]

_FILE = "local-privacy.json"
"""In the run's directory: what this cluster has spent so far."""

_CALL = "call private(model, optimizer, loader, epochs=...) once, and train what it returns"

_ACCOUNTANT = "rdp"
"""Opacus' name of the one by Rényi's divergence: an upper bound, where its others approximate."""

_CPU_STATE_BYTES, _TWISTER_BEGIN, _TWISTER_WORDS = 5056, 24, 624
"""PyTorch's state of a CPU's generator: a header, the twister's words, each 32 bits in 64, and the last normal number
(`CPUGeneratorImplStateLegacy` in aten/src/ATen/CPUGeneratorImpl.cpp)."""

_History = list[tuple[float, float, int]]
"""What an accountant of Opacus keeps: multiplier, share of the examples in a batch, and how many batches."""


def privately(invitation: dict[str, Any]) -> Private | Plain:
    """What an app's `train` gets as `private`. Raises Unanswerable."""
    terms = invitation.get("local_privacy")
    if terms is None:
        return Plain()
    owner = f"{invitation['run']}/{invitation['cluster']}"
    return Private(terms, Path(invitation["home"]) / _FILE, owner, invitation["training_round"])


class Plain:
    """For a run that asks for no noise: so one `train` serves runs of both kinds."""

    def __call__(self, model: Any, optimizer: Any, loader: Any, epochs: int = 1) -> tuple[Any, Any, Any]:
        """What was given, as it is."""
        return model, optimizer, loader

    def spent(self) -> dict[str, float]:
        """Nothing is promised, so nothing is said."""
        return {}


class Private:
    """Noise as the run's terms say, for one training round of one cluster. To make it raises Unanswerable where there is no Opacus."""

    def __init__(self, terms: dict[str, Any], file: Path, owner: str, training_round: int) -> None:
        self._terms = terms
        self._file = file
        self._owner = owner
        self._training_round = training_round
        self._opacus = _loaded()
        self._accountant: Any = None
        self._steps_before = 0

    def __call__(self, model: Any, optimizer: Any, loader: Any, epochs: int = 1) -> tuple[Any, Any, Any]:
        """The three with noise; `epochs` is how often the app goes through the loader. The weights are still those of `model`.

        Raises Unanswerable.
        """
        if self._accountant is not None:
            raise Unanswerable("not-private", f"train has called private twice, and one model is trained; {_CALL}")
        steps = epochs * len(loader)
        if steps < 1:
            said = f"train is to go {epochs} times through {len(loader)} batches"
            raise Unanswerable("not-private", f"{said}; give private a loader with at least one, and epochs of at least 1")
        engine, share = self._opacus.PrivacyEngine(accountant=_ACCOUNTANT), 1 / len(loader)
        multiplier = self._multiplier(share, steps)
        history = self._history((multiplier, share, steps * (self._training_round - 1)))
        self._afford([*history, (multiplier, share, steps)])
        loader.generator = _unpredictable(torch.device("cpu"))  # by which Opacus draws batches
        noise = _unpredictable(next(model.parameters()).device)
        try:
            private = engine.make_private(
                module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=multiplier, max_grad_norm=self._terms["clip"],
                noise_generator=noise,
            )  # fmt: skip
        except (ValueError, NotImplementedError, self._opacus.validators.errors.UnsupportedError) as error:
            raise Unanswerable("not-private", f"Opacus cannot train this with noise: {error}") from error
        engine.accountant.history = history
        self._accountant, self._steps_before = engine.accountant, _steps(history)
        return tuple(private)

    def spent(self) -> dict[str, float]:
        """What all rounds have cost so far, this one included, as metrics; it is written down. Raises Unanswerable."""
        if self._accountant is None:
            raise Unanswerable("not-private", f"the run asks for noise, and train has not called private; {_CALL}")
        history = self._accountant.history
        if _steps(history) == self._steps_before:
            raise Unanswerable("not-private", f"train has made no step with the optimizer that private returned; {_CALL}")
        epsilon = self._afford(history)
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"owner": self._owner, "history": history}))
        unfinished.replace(self._file)  # all of it or nothing, should this process be killed
        return {"epsilon": epsilon, "delta": self._terms["delta"]}

    def _multiplier(self, share: float, steps: int) -> float:
        """How much noise: what the terms say, or what all rounds may spend together, if each takes so many steps."""
        if self._terms["multiplier"] is not None:
            return float(self._terms["multiplier"])
        return _calibrated(self._terms["epsilon"], self._terms["delta"], share, steps * self._terms["rounds"])

    def _afford(self, history: _History) -> float:
        """The epsilon of so much. Raises Unanswerable if that is more than the budget."""
        accountant, budget = self._opacus.accountants.create_accountant(_ACCOUNTANT), self._terms["epsilon"]
        accountant.history = history
        try:
            epsilon = float(accountant.get_epsilon(self._terms["delta"]))
        except ArithmeticError:  # of hardly any noise, whose square is 0
            epsilon = math.inf
        if budget is not None and not epsilon <= budget:
            said = f"epsilon would be {epsilon:.4g} after this training, and this cluster may spend {budget:g} in the whole run"
            mend = "rounds that were repeated count, and so do epochs that private was not told of; raise epsilon, or train less"
            raise Unanswerable("budget-spent", f"{said}; {mend}")
        if not math.isfinite(epsilon):
            raise Unanswerable("not-private", f"with so little noise epsilon is {epsilon}; raise noiseMultiplier")
        return epsilon

    def _history(self, presumed: tuple[float, float, int]) -> _History:
        """What this cluster has spent in the run so far: what is written down, else what is presumed."""
        if not self._file.exists():
            return [presumed] if presumed[-1] else []
        try:
            written = json.loads(self._file.read_text())
            whose, history = written["owner"], [(float(noise), float(share), int(steps)) for noise, share, steps in written["history"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Unanswerable("not-private", f"what this cluster has spent cannot be read from {self._file}: {error}") from error
        if whose != self._owner:
            raise Unanswerable("not-private", f"{self._file} says what {whose} has spent, and this is {self._owner}")
        return history


@lru_cache(maxsize=8)  # a second of computing, and every round of a run asks for the same
def _calibrated(epsilon: float, delta: float, share: float, steps: int) -> float:
    tolerance = min(epsilon / 100, 0.01)
    try:
        found = _loaded().accountants.utils.get_noise_multiplier(
            target_epsilon=epsilon, target_delta=delta, sample_rate=share, steps=steps, accountant=_ACCOUNTANT, epsilon_tolerance=tolerance
        )
    except ValueError as error:
        said = f"no noise is enough for epsilon {epsilon:g} in the {steps} steps of all rounds: {error}"
        raise Unanswerable("budget-spent", f"{said}; raise epsilon, or train fewer rounds or epochs") from error
    return float(found)


def _loaded() -> Any:
    try:
        import opacus.accountants.utils  # noqa: PLC0415 -- only such a run needs it, and it takes seconds
        import opacus.validators.errors  # noqa: PLC0415
    except ImportError as error:
        mend = "add opacus to its dependencies (1.6 was tried), or leave out spec.privacy.differentialPrivacy.local"
        raise Unanswerable("load-failed", f"the app's environment has no Opacus: {error}; {mend}") from error
    return opacus


def _steps(history: _History) -> int:
    return sum(steps for _, _, steps in history)


def _unpredictable(device: torch.device) -> torch.Generator:
    """A generator whose numbers nobody can repeat."""
    generator = torch.Generator(device)
    generator.seed()
    if device.type == "cpu":
        state = generator.get_state()
        if len(state) != _CPU_STATE_BYTES:
            raise Unanswerable("not-supported", f"PyTorch {torch.__version__} has generators of {len(state)} bytes, which were not tried")
        words = torch.frombuffer(bytearray(os.urandom(4 * _TWISTER_WORDS)), dtype=torch.int32).to(torch.int64) & 0xFFFFFFFF
        state[_TWISTER_BEGIN : _TWISTER_BEGIN + 8 * _TWISTER_WORDS] = words.view(torch.uint8)
        generator.set_state(state)
    return generator
