"""What the driver and an app's server leave each other on disk."""

import os
from pathlib import Path

from fedplane.collaborator.driver.files import LOGS_KEPT_MAX, put_away


def test_what_a_server_printed_outlives_its_directory_and_the_oldest_logs_go(tmp_path: Path) -> None:
    for number in range(LOGS_KEPT_MAX + 2):
        run = tmp_path / f"run-{number}"
        (run / "server").mkdir(parents=True)
        (run / "app.log").write_text(f"round {number}")
        put_away(run)
        os.utime(tmp_path / f"run-{number}.log", (number, number))
    put_away(tmp_path / "never-there")

    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == {f"run-{number}.log": f"round {number}" for number in range(2, LOGS_KEPT_MAX + 2)}
