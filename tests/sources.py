"""The text files of the tree, read once, for the tests that judge them: `test_tidy` and `test_architecture`."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """A file of the tree."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def name(self) -> str:
        return Path(self.path).stem


@cache
def tree() -> tuple[Source, ...]:
    """Every text file that is tracked, or would be if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    paths = [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]
    return tuple(Source(path, text) for path in sorted(paths) if (text := read(ROOT / path)) is not None)


def read(path: Path) -> str | None:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return None  # a picture or a model, which has no style
