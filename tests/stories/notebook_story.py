"""The validation notebook as a person executes it: by the command of its README, in a tree that has a model where a demo leaves it."""

import base64
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from machine_story import REPOSITORY, app_python

EXAMPLE = REPOSITORY / "examples/02-validate-a-model"
README = (EXAMPLE / "README.md").read_text()
EXECUTING_SECONDS = 120
"""It takes five; a machine that tests much else at once takes longer."""


@dataclass(frozen=True)
class Executed:
    """What the cells printed, and the pictures that they drew."""

    said: list[str]
    pictures: list[bytes]


def notebook_python() -> Path:
    """The app's Python, if it has what the notebook needs. Otherwise skip on a laptop and fail in CI."""
    python = app_python()
    if not (python.parent / "jupyter-execute").exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)("the example's environment has no Jupyter; `make notebook` adds it")
    return python


def command() -> str:
    """The README's line that executes the notebook, without the variable that a reader sets."""
    (line,) = re.findall(r"^\$ MODEL=\S+ (\S+/jupyter execute .*)$", README, re.MULTILINE)
    return str(line)


def execute(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type the command in the notebook's directory of a tree, where the first example is ours."""
    directory = tree / "examples" / EXAMPLE.name
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("validated.ipynb", "__pycache__"))
    python = notebook_python()
    (tree / "examples/01-mnist").symlink_to(REPOSITORY / "examples/01-mnist")
    typed = command().replace("../01-mnist/.venv/bin/", f"{python.parent}/")
    said = {key: value for key, value in os.environ.items() if key not in {"MODEL", "DIGITS"}} | environment
    return subprocess.run(typed.split(), cwd=directory, env=said, capture_output=True, text=True, timeout=EXECUTING_SECONDS, check=False)


def executed(tree: Path, **environment: str) -> Executed:
    done = execute(tree, **environment)
    assert done.returncode == 0, done.stderr
    return outputs_of(tree / "examples" / EXAMPLE.name / "validated.ipynb")


def outputs_of(notebook: Path) -> Executed:
    """What is in the file of a notebook that was executed."""
    cells = json.loads(notebook.read_text())["cells"]
    outputs: list[dict[str, Any]] = [output for cell in cells for output in cell.get("outputs", ())]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return Executed(["".join(output["text"]) for output in outputs if "text" in output], [base64.b64decode(each) for each in pictures])
