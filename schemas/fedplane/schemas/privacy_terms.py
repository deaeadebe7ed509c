"""What facts carry about privacy: how a round's updates are masked, how much noise there is, what it has cost, and clusters' keys.

The resource says what is wanted (`privacy`); these are the numbers that were made of it, so that everybody computes with the same ones.
Like all values inside facts, they have no subject.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from fedplane.schemas.models import Value, Weight
from fedplane.schemas.names import Name

__all__ = [
    "CERTIFICATE_CHARACTERS_MAX", "LocalTerms", "Commitments", "Keyholder", "Key", "MaskingTerms", "NoiseTerms", "Paper", "Sealed",
    "Signature", "Spent", "Step",
]  # fmt: skip

CERTIFICATE_CHARACTERS_MAX = 6_000
"""A certificate and the one that signed it, in PEM: with keys of 4,096 bits they have about 4,500."""

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}=$")]
"""32 bytes, in base64 for URLs (RFC 4648, section 5): a public key of X25519, or a digest by SHA-256."""

Sealed = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+={0,2}$", max_length=400)]
"""A few dozen bytes that only one cluster can read, or that no cluster has to hide any more, in base64 for URLs."""

LINES_MAX = 200
"""PEM has 64 characters in a line, so 6,000 characters of certificates have a hundred lines, and some shorter ones."""


def _few_lines(text: str) -> str:
    if (lines := text.count("\n")) > LINES_MAX:
        raise ValueError(f"has {lines} lines, and certificates of {CERTIFICATE_CHARACTERS_MAX} characters have {LINES_MAX} at most")
    return text


Paper = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9+/= \n-]*$", max_length=CERTIFICATE_CHARACTERS_MAX), AfterValidator(_few_lines)
]
"""Certificates in PEM, the holder's own first; nothing on a bus without.

JSON writes each character of it as one, but for the ends of lines: what all members show has to fit the one fact that names them.
"""

Signature = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_=-]*$", max_length=800)]
"""A signature in base64 for URLs; with a key of 4,096 bits it has 684 characters. Nothing on a bus without certificates."""

Commitments = tuple[Key, Key]
"""Digests of a share of a cluster's seed, and of a share of its mask key."""

Step = Literal["sharing", "masking", "revealing"]
"""The steps of a masked round after training, each with a time of its own."""


class MaskingTerms(Value):
    """How a training round's updates are masked.

    A change of one number of the model counts up to `clip`, and travels as an integer of `bits` bits.
    `weights` says whether numbers of examples are on the log; if they are hidden, `weight_max` is the most that counts.
    `neighbours` and `threshold` are the least that the resource asks for; none: as the number of clusters wants.
    With noise, each cluster shortens its change to `norm_max` and adds noise of that `deviation` to every float of it.
    """

    clip: float = Field(gt=0)
    bits: Literal[32, 64]
    weights: Literal["public", "hidden"]
    step_seconds: float = Field(gt=0)
    weight_max: float | None = Field(default=None, gt=0)
    neighbours: int | None = Field(default=None, ge=2)
    threshold: int | None = Field(default=None, ge=2)
    norm_max: float | None = Field(default=None, gt=0)
    deviation: float | None = Field(default=None, gt=0)


class Keyholder(Value):
    """A cluster that has trained and wants to mask: its keys of this round, who vouches for them, and how much it counts."""

    cluster: Name
    mask_key: Key
    seal_key: Key
    certificate: Paper = ""
    signature: Signature = ""
    weight: Weight


class NoiseTerms(Value):
    """The noise that the aggregators add to a training round's mean.

    Each update is shortened to `clip`. The standard deviation of the noise in their sum is `multiplier` times that.
    `count_deviation` is that of the noise in the number of updates that were not shortened, by which the clip adapts; none: it does not.
    """

    clip: float = Field(gt=0)
    multiplier: float = Field(gt=0)
    count_deviation: float | None = Field(default=None, gt=0)


class Spent(Value):
    """What the run's noise has cost up to a round: (epsilon, delta) after so many rounds with that multiplier, by that accountant."""

    epsilon: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    rounds: int = Field(ge=1)
    multiplier: float = Field(gt=0)
    clip: float = Field(gt=0)
    accountant: Literal["pld", "rdp"]


class LocalTerms(Value):
    """The noise that a cluster's app is to train with: see `LocalPrivacy`. `rounds` is how many training rounds the budget is for."""

    delta: float = Field(gt=0, lt=1)
    clip: float = Field(gt=0)
    rounds: int = Field(ge=1)
    epsilon: float | None = Field(default=None, gt=0)
    multiplier: float | None = Field(default=None, gt=0)
