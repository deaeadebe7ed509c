"""The notebook of what a hub sees: digits come out of updates in the clear, none of masked ones, and none of a sum with much noise."""

import os
import re
import shutil
import subprocess
import sys
from statistics import mean

import pytest
from machine_story import REPOSITORY
from notebook_story import Executed, notebook_python, outputs_of

pytestmark = pytest.mark.app

EXAMPLE, DIGITS = REPOSITORY / "examples/13-what-a-hub-sees", REPOSITORY / "examples/01-mnist"
EXECUTING_SECONDS = 240
"""It takes a quarter of a minute by itself."""


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """The notebook, executed by the command of its page, on digits of its own: a demo may be writing the example's."""
    python, tree = notebook_python(), tmp_path_factory.mktemp("tree")
    here = tree / "examples" / EXAMPLE.name
    shutil.copytree(EXAMPLE, here, ignore=shutil.ignore_patterns("looked.ipynb", "__pycache__"))
    subprocess.run([python, DIGITS / "shards.py", tree / "data"], check=True, capture_output=True)
    (typed,) = re.findall(r"^\$ (\S+/jupyter execute .*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    done = subprocess.run(
        typed.replace("../01-mnist/.venv/bin/", f"{python.parent}/").split(), cwd=here, capture_output=True, text=True, check=False,
        env={**os.environ, "DATA": str(tree / "data"), "FEDPLANE": sys.executable}, timeout=EXECUTING_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return outputs_of(here / "looked.ipynb")


def lines(looked: Executed, pattern: str) -> list[tuple[str, ...]]:
    """What the lines say that match; a cell's lines may come in several parts."""
    return re.findall(rf"^{pattern}$", "".join(looked.said), re.MULTILINE)


def judged(looked: Executed) -> list[tuple[bool, float, bool]]:
    """Of each restored picture: whether its label was found, how much it is like the digit, and whether no other digit is more like it."""
    found = lines(looked, r"\w+ +its (\d) is read as a (\d); likeness (\S+); of 1,001 digits (.*)")
    return [(one == other, float(like), who.endswith("the cluster's own")) for one, other, like, who in found]


def likenesses(said: str) -> list[float]:
    return [abs(float(each)) for each in said.split(", ")]


def test_each_digit_is_restored_from_an_update_in_the_clear(looked: Executed) -> None:
    found = judged(looked)[:3]

    assert [(label, own) for label, _, own in found] == [(True, True)] * 3
    assert min(like for _, like, _ in found) > 0.8


def test_no_digit_is_restored_from_a_masked_update_and_the_mean_is_right(looked: Executed) -> None:
    found = judged(looked)[3:]
    ((right, promised),) = lines(looked, r"the mean, with .* is right to (\S+), and promised to (\S+)")

    assert [own for _, _, own in found] != [True] * 3
    assert max(abs(like) for _, like, _ in found) < 0.4
    assert float(right) <= float(promised) < 1e-7


def test_the_sum_tells_which_digits_there_are_and_with_noise_it_tells_nothing(looked: Executed) -> None:
    ((there, read, like),) = lines(looked, r"there are (\[.*\]), and (\[.*\]) are read; likeness (.*)")
    noisy = lines(looked, r"noise (\S+): epsilon (\S+), \[.*\] are read; likeness (.*)")

    assert read == there
    assert [(noise, epsilon) for noise, epsilon, _ in noisy] == [("0.01", "5,427.0"), ("0.1", "91.8"), ("1", "4.4")]
    assert max(likenesses(noisy[-1][2])) < min(0.4, max(likenesses(like)))


def test_shares_of_digits_are_guessed_from_a_rounds_update_in_the_clear_and_not_from_a_masked_one(looked: Executed) -> None:
    shares = lines(looked, r"\w+ +[\d,]+ digits; of their shares (\d+)% are guessed right in the clear, (\d+)% if masked")

    assert [int(clear) > 70 for clear, _ in shares] == [True] * 3
    assert mean(int(masked) for _, masked in shares) < 65  # masks are chance, and of one cluster chance may tell more
    assert [picture.startswith(b"\x89PNG") for picture in looked.pictures] == [True] * 5
