"""How long a watch waits for a server that was away: a server that answers as it is told says when it was asked."""

import asyncio
from itertools import pairwise
from pathlib import Path

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from fedplane.runtime.kinds import CONFIG_MAP
from fedplane.runtime.kubernetes import Patience, open_cluster

ANSWERS = (200, 200, 503, 503, 503, 503, 503, 410, 200)
"""A list, a stream that ends at once, a server that is away, one that is back and knows our version no longer, and the list anew."""


async def test_a_server_that_is_back_is_not_waited_for_as_long_as_it_was_away(tmp_path: Path) -> None:
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        body = "" if "watch" in request.query else '{"metadata": {"resourceVersion": "7"}, "items": []}'
        return web.Response(status=ANSWERS[len(asked) - 1], text=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        kubeconfig = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": str(server.make_url("/"))}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        async with open_cluster(str(tmp_path / "kubeconfig"), patience=Patience(pause_min_seconds=0.02)) as cluster, asyncio.timeout(30):
            watch = cluster.watch(CONFIG_MAP)
            for _ in range(2):  # everything has been told, and once more
                await anext(watch)
            await watch.aclose()

    waited = [later - earlier for earlier, later in pairwise(asked)]
    assert waited[6] >= 0.02 * 2**5, "twice as long each time, while it was away"
    assert waited[7] < waited[6] / 2, "and not when it was back"
