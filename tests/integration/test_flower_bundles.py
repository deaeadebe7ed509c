"""A Flower app as one file: the same bytes as Flower's own, and in a real federation the same as its directory."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from machine_story import REPOSITORY, TINY_APP, app_python, machine, settle_environment

from fedplane.cli.bundling import bundled
from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle
from fedplane.schemas.facts import Completed, Invited

BUILD = """
import sys
from pathlib import Path
from flwr.cli.build import build_fab_from_disk
for directory, file in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        Path(file).write_bytes(build_fab_from_disk(Path(directory)))
    except ValueError:
        pass
"""

PROJECT = """
# a comment, and an order, that Flower's own file does not keep
tool.flwr.federations.default = "local"
tool.other = [{ at = 1979-05-27T07:32:00Z, "a key" = 1.0, text = "it's" }, { list = [1, [2, "\\u00e9"]], none = [] }]
[tool.flwr.app]
publisher = "test"
components = { clientapp = "odd.client:app", serverapp = "odd.server:app" }
INCLUDE
[project]
version = "1"
name = "odd-App-2"
"""

ODD = {
    "odd/client.py": "app = 1", "odd/server.py": "app = 1", "odd/B.py": "", "odd/a,b.md": "", "odd/\u00e9.json": "{}", "odd.toml": "",
    "odd/test_client.py": "", "odd/client_test.py": "", "odd/notes.txt": "", "odd/data.bin": "", "odd/__pycache__/c.py": "",
    "lib/x.py": "", "odd/lib/x.py": "", "build/x.py": "", "env/x.py": "", "odd/env/x.py": "", ".venv/x.py": "", "odd/.venv/x.py": "",
    ".flwr/x.toml": "", "a.egg/x.py": "", "LICENSE": "free", "odd/LICENSE": "", "LICENSE.md": "", ".hidden/x.yml": "",
    "secret/key.json": "", "odd/secret/key.json": "", "secret/shown.json": "", "odd/pyproject.toml": "", ".editorconfig": "",
}  # fmt: skip
"""Files of which some go into a bundle, and others, for many reasons, do not."""

IGNORED = "# mine\n/secret/*\n!secret/shown.json\n  \n"

INCLUDES = {
    "everything": "",
    "some": 'fab-include = ["odd/**/*.py", "*.toml"]',
    "not some": 'fab-exclude = ["odd/lib", "*.md", ".editorconfig", ".gitignore"]',
    "some and not others": 'fab-include = ["odd/"]\nfab-exclude = ["odd/**/x.py"]',
}

WRONG = {
    "its name": {"pyproject.toml": PROJECT.replace("odd-App-2", "odd_app").replace("INCLUDE", "")},
    "a pattern for nothing": {"pyproject.toml": PROJECT.replace("INCLUDE", 'fab-include = ["*.csv"]')},
    "no pattern": {"pyproject.toml": PROJECT.replace("INCLUDE", 'fab-include = ["!"]')},
    "a kind of file": {"pyproject.toml": PROJECT.replace("INCLUDE", 'fab-include = ["**"]')},
    "a component": {"pyproject.toml": PROJECT.replace("clientapp", "client").replace("INCLUDE", "")},
    "its size": {"large.json": "7" * BUNDLE_BYTES_MAX},
    "its depth": {"a/" * 11 + "b.py": ""},
    "no project": {".gitignore": "*.toml"},
}
"""What each of the apps of which there can be no bundle has changed."""

pytestmark = pytest.mark.app


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settle_environment(monkeypatch)
    path = tmp_path / "tiny.fab"
    path.write_bytes(bundled(TINY_APP))
    return path


def odd_app(directory: Path, include: str, change: Mapping[str, str] = MappingProxyType({})) -> Path:
    for name, text in {**ODD, "pyproject.toml": PROJECT.replace("INCLUDE", include), ".gitignore": IGNORED, **change}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "odd/link.py").symlink_to("client.py")
    (directory / "linked").symlink_to(directory / "odd")
    return directory


def test_a_bundle_has_the_bytes_that_flower_gives_it(tmp_path: Path) -> None:
    apps = {name: odd_app(tmp_path / name, include) for name, include in INCLUDES.items()}
    apps |= {"tiny": TINY_APP, "example": REPOSITORY / "examples/01-mnist"}
    files = {name: tmp_path / f"{name}.fab" for name in apps}
    told = [path for name in apps for path in (apps[name], files[name])]
    subprocess.run([app_python(), "-c", BUILD, *told], check=True, capture_output=True)

    assert {name for name, app in apps.items() if bundled(app) != files[name].read_bytes()} == set()
    assert len({file.read_bytes() for file in files.values()}) == len(apps)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Apps with one thing wrong, and the files that Flower was told to make of them, by one process: loading Flower takes seconds."""
    directory = tmp_path_factory.mktemp("refused")
    made = {name: (odd_app(directory / name, "", change), directory / f"{name}.fab") for name, change in WRONG.items()}
    told = [path for pair in made.values() for path in pair]
    subprocess.run([app_python(), "-c", BUILD, *told], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("wrong", WRONG)
def test_what_flower_makes_no_bundle_of_becomes_none_here(wrong: str, refused: dict[str, tuple[Path, Path]]) -> None:
    app, file = refused[wrong]

    assert not file.exists()
    with pytest.raises(BadInput):
        bundled(app)


async def test_a_bundle_runs_as_its_directory_does(tmp_path: Path, bundle: Path) -> None:
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()  # noqa: ASYNC240 -- nothing else runs yet
    async with machine(tmp_path) as it:
        run = await it.submit(app=bundle, server={"rounds": 1, "minAvailableClients": 3})
        end = await it.end_of(run)
        asked = {record.fact.app for record in it.log if isinstance(record.fact, Invited)}

    assert isinstance(end, Completed), end
    assert asked == {str(Bundle(str(bundle), digest))}
