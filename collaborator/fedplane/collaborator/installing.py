"""Putting the runner where an app's container finds it: `python -m fedplane.collaborator.installing DIRECTORY`.

The app's image knows nothing of us, so a container of ours runs this before the app's container starts, and both share the directory.
Afterwards any Python starts the runner by `python3 DIRECTORY`, without a variable that would bend what the image's own Python finds.
What the files are is told in `frameworks`.
"""

import sys
from pathlib import Path

from fedplane.collaborator.children import PACKAGE, RUNNER, deliver

__all__ = ["install"]

LAUNCHER = f"""import sys

from {PACKAGE}.__main__ import main

sys.exit(main())
"""
"""Python runs this file when it is started with the directory. The runner itself is a package, so that its modules find each other."""


def install(directory: Path, runner: Path = RUNNER) -> None:
    """Put the runner there. Doing it again changes nothing."""
    directory.mkdir(parents=True, exist_ok=True)
    deliver(runner, directory)
    (directory / "__main__.py").write_text(LAUNCHER)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
