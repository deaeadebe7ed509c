"""The runner beside an app in another container: put there by one image, started by another one's Python."""

import subprocess
import sys

from fedplane.collaborator.installing import install


def start(directory, **environment):
    command = [sys.executable, directory, "--help"]
    return subprocess.run(command, cwd="/", env={"PATH": "/usr/bin", **environment}, capture_output=True, text=True, check=False)


def test_a_python_is_started_with_the_directory_and_its_own_modules_stay_where_they_were(tmp_path):
    runner, modules = tmp_path / "shared/runner", tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text("print('found what the image brought')")

    install(runner)
    started = start(runner, PYTHONPATH=str(modules))

    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout.startswith("found what the image brought\nusage: fedplane_runner ")


def test_installing_again_changes_nothing(tmp_path):
    install(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.py")}
    install(tmp_path)

    assert {path: path.read_bytes() for path in tmp_path.rglob("*.py")} == before
    assert {path.relative_to(tmp_path).as_posix() for path in before} >= {"__main__.py", "fedplane_runner/__main__.py"}
