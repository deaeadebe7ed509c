"""What an app's process is given, and what is said of its end."""

import signal
from pathlib import Path

import pytest

from fedplane.collaborator.children import app_environment, epitaph, own_python


def test_an_app_gets_the_users_environment_without_our_secrets_and_our_python() -> None:
    ours = {
        "HOME": "/home/ada", "PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "8",
        "FEDPLANE_NATS_URL": "nats://secret", "NATS_CREDS": "secret", "OTEL_EXPORTER": "x", "PYTHONPATH": "/ours", "VIRTUAL_ENV": "/ours",
    }  # fmt: skip

    environment = app_environment(ours, Path("/app/.venv/bin/python"), Path("/work"), threads=2)

    assert environment == {
        "HOME": "/home/ada", "PATH": "/app/.venv/bin:/usr/bin", "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2",
        "PYTHONPATH": "/work", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1",
    }  # fmt: skip


def test_the_number_of_threads_can_be_left_to_the_app() -> None:
    environment = app_environment({"OMP_NUM_THREADS": "8"}, Path("/app/python"), Path("/work"), threads=0)

    assert environment["OMP_NUM_THREADS"] == "8"
    assert "MKL_NUM_THREADS" not in environment


def test_an_app_with_an_environment_is_run_by_its_python(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()

    assert own_python(tmp_path) == tmp_path / ".venv/bin/python"


def test_an_app_may_have_no_environment_of_its_own(tmp_path: Path) -> None:
    assert own_python(tmp_path) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "the app's process exited by itself with code 0 in the middle of its work"),
        (3, "the app's process exited by itself with code 3 in the middle of its work"),
        (-signal.SIGKILL, "the app's process was killed by SIGKILL; the machine may have been out of memory"),
        (-signal.SIGSEGV, "the app's process was killed by SIGSEGV"),
        (-35, "the app's process was killed by signal 35"),
    ],
)
def test_an_exit_code_is_put_into_words(code: int, said: str) -> None:
    assert epitaph(code) == said
