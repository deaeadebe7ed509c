"""What goes into a Flower app's one file, and which apps do not become one. That the bytes are Flower's is said in test_flower_bundles."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedplane.cli import bundling
from fedplane.cli.bundling import bundled
from fedplane.cli.main import app as commands
from fedplane.collaborator.bundles import unpacked
from fedplane.runtime.errors import BadInput
from fedplane.schemas.bundles import BUNDLE_BYTES_MAX, Bundle

PROJECT = """
[project]
name = "small"
version = "1"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "small.server:app"
clientapp = "small.client:app"
"""
APP = {"pyproject.toml": PROJECT, "small/__init__.py": "", "small/server.py": "app = 1\n", "small/client.py": "def app(): ...\n"}


def app_in(directory: Path, files: dict[str, str]) -> Path:
    for name, text in (APP | files).items():
        (directory / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / "app" / name).write_text(text)
    return directory / "app"


def files_in(directory: Path, bundle: bytes) -> set[str]:
    """The files' names, as a cluster unpacks them."""
    (directory / "app.fab").write_bytes(bundle)
    found = unpacked(Bundle(str(directory / "app.fab")), directory / "unpacked")
    return {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}


def refusal(directory: Path, files: dict[str, str]) -> str:
    """Why the app does not become a bundle; its directory's own path is left out."""
    app = app_in(directory, files)
    with pytest.raises(BadInput) as refused:
        bundled(app)
    return str(refused.value).replace(f"{app}/", "").replace(str(app), "the app")


def test_a_cluster_takes_the_bundle_and_finds_the_apps_files_and_nothing_else(tmp_path: Path) -> None:
    app = app_in(
        tmp_path,
        {
            "README.md": "small", "small/more/deep.py": "", "small/notes.txt": "", "small/test_client.py": "", "data/one.json": "{}",
            ".venv/lib/a.py": "", "small/__pycache__/a.py": "", "secret/key.toml": "", ".gitignore": "# mine\nsecret/\n",
        },
    )  # fmt: skip
    (app / "small/link.py").symlink_to("/etc/hostname")

    assert files_in(tmp_path, bundled(app)) == APP.keys() | {"README.md", "small/more/deep.py", "data/one.json"}


def test_the_same_app_is_the_same_bytes_wherever_and_whenever_it_is_bundled(tmp_path: Path) -> None:
    first, second = (bundled(app_in(tmp_path / name, {})) for name in ("one", "two"))
    third = bundled(app_in(tmp_path / "three", {"small/client.py": "app = 2\n"}))

    assert first == second != third


def test_an_app_may_say_which_files_it_needs(tmp_path: Path) -> None:
    said = PROJECT.replace(
        "[tool.flwr.app.components]", 'fab-include = ["small/**"]\nfab-exclude = ["small/old.py"]\n[tool.flwr.app.components]'
    )
    app = app_in(tmp_path, {"pyproject.toml": said, "small/old.py": "", "README.md": ""})

    assert files_in(tmp_path, bundled(app)) == APP.keys()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": "[project"}, "pyproject.toml is no TOML: "),
        ({"pyproject.toml": "[project]"}, "pyproject.toml says no name below [project]; a bundle needs it"),
        (
            {"pyproject.toml": PROJECT.replace("publisher", "by")},
            "pyproject.toml says no publisher below [tool.flwr.app]; a bundle needs it",
        ),
        (
            {"pyproject.toml": PROJECT.replace('"small"', '"my_app"')},
            "pyproject.toml calls the app 'my_app', which Flower does not take; "
            "begin the name with a letter, and use letters, digits and hyphens, 32 at most",
        ),
        (
            {"pyproject.toml": PROJECT.replace("clientapp", "client")},
            'pyproject.toml has no clientapp below [tool.flwr.app.components]; write clientapp = "module:attribute"',
        ),
        (
            {"pyproject.toml": PROJECT.replace("small.client", "small.nowhere")},
            "pyproject.toml: the clientapp is 'small.nowhere:app', and the bundle would have no small/nowhere.py; "
            "mend the name, or what is left out",
        ),
        (
            {"small/server.py": "other = 1\n"},
            "pyproject.toml: the serverapp is 'small.server:app', and small/server.py has no app; mend one of the two",
        ),
        ({"small/server.py": "app ="}, "small/server.py is no Python: "),
        ({".gitignore": "*.toml\n"}, "pyproject.toml is a link, or left out by .gitignore; a bundle needs it"),
        ({"a/" * 11 + "b.py": ""}, f"{'a/' * 11}b.py is 11 folders deep, and may be 10; move it, or name it in .gitignore"),
        (
            {"pyproject.toml": PROJECT.replace("[tool.flwr.app]", '[tool.flwr.app]\nfab-exclude = ["*.csv"]')},
            "pyproject.toml: the pattern '*.csv' in fab-exclude fits no file; mend it, or take it out",
        ),
        (
            {"pyproject.toml": PROJECT.replace("[tool.flwr.app]", "[tool.flwr.app]\nfab-include = []")},
            "pyproject.toml has a fab-include below [tool.flwr.app] that is no list of patterns; write some, or leave it out",
        ),
        (
            {
                "pyproject.toml": PROJECT.replace("[tool.flwr.app]", '[tool.flwr.app]\nfab-exclude = ["README.md"]'),
                "README.md": "", ".gitignore": "",
            },
            "pyproject.toml: a bundle takes no .gitignore; name that in fab-exclude, or have fab-include not fit it",
        ),
        ({".gitignore": "!\n"}, ".gitignore has a pattern that is none: "),
        (
            {"data.json": "7" * BUNDLE_BYTES_MAX},
            f"the app: the app's files have {BUNDLE_BYTES_MAX + 23} bytes, and a bundle may have {BUNDLE_BYTES_MAX}; "
            "the largest is data.json: put data elsewhere, or name it in fab-exclude below [tool.flwr.app]",
        ),
    ],
)  # fmt: skip
def test_an_app_that_could_not_be_used_is_refused_with_the_file_and_the_mend(tmp_path: Path, files: dict[str, str], said: str) -> None:
    assert refusal(tmp_path, files).startswith(said)


@pytest.mark.parametrize("name", ["gone", "."])
def test_a_directory_without_an_app_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as refused:
        bundled(tmp_path / name)

    assert str(refused.value) == f"{tmp_path / name} has no pyproject.toml; name the directory of a Flower app, which has one"


def test_a_directory_with_far_more_than_an_app_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "FILES_SEEN_MAX", len(APP))
    app = app_in(tmp_path, {})
    assert bundled(app)
    (app / "picture.png").touch()

    with pytest.raises(BadInput, match=f"has more than {len(APP)} files; put what is not the app elsewhere"):
        bundled(app)


def test_a_bundle_counts_its_list_of_files_too(tmp_path: Path) -> None:
    room = BUNDLE_BYTES_MAX - 23

    assert refusal(tmp_path, {"data.json": "7" * room}).endswith(f"bytes, and may have {BUNDLE_BYTES_MAX}; leave files out by fab-exclude")


def test_the_command_says_how_a_run_names_what_it_wrote(tmp_path: Path) -> None:
    app, file = app_in(tmp_path, {}), tmp_path / "small.fab"
    done = CliRunner().invoke(commands, ["bundle", str(app), "-o", str(file)])
    named = Bundle.meant_by(done.stdout.strip())

    assert (done.exit_code, done.stderr) == (0, f"{file}: {file.stat().st_size} bytes, the app of {app}\n")
    assert named is not None and unpacked(named, tmp_path / "unpacked").is_dir()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["small.fab"]


@pytest.mark.parametrize(
    ("output", "said"),
    [("small.zip", "a bundle is known by the end of its name; write "), ("gone/small.fab", "cannot be written: No such file or directory")],
)
def test_a_bundle_that_no_run_could_name_is_not_written(tmp_path: Path, output: str, said: str) -> None:
    done = CliRunner().invoke(commands, ["bundle", str(app_in(tmp_path, {})), "-o", str(tmp_path / output)])

    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception)
