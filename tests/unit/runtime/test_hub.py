"""Whether a service works on a hub is a setting, and what is wrong with the setting is said."""

import sys
from pathlib import Path

import pytest

from fedplane.runtime.errors import BadInput, Unavailable
from fedplane.runtime.hub import open_hub
from fedplane.runtime.settings import HubSettings


async def test_a_service_that_was_told_of_no_hub_has_none() -> None:
    async with open_hub(HubSettings()) as hub:
        assert hub is None


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        async with open_hub(HubSettings(kubernetes=str(tmp_path / "nowhere"))):
            pass


async def test_who_is_in_no_pod_is_told_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(BadInput, match="outside of a cluster, name a kubeconfig"):
        async with open_hub(HubSettings(kubernetes="in-cluster")):
            pass


async def test_without_the_client_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("fedplane.runtime.kubernetes")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)

    with pytest.raises(Unavailable, match=r"aiohttp is not installed: pip install 'fedplane\[hub\]'"):
        async with open_hub(HubSettings(kubernetes="in-cluster")):
            pass
