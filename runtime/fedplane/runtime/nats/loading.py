"""Loading the client library without aiohttp, which it takes along for websockets wherever that is installed.

We speak no websockets. The command line and a hub's services have aiohttp for other things, and most of what they do needs none of them.
Loaded for nothing it is 80 ms of each process's start and 9 MB of its memory, a sixth of both.
So the library finds no aiohttp while it is loaded itself. Who imports it afterwards has it.
The package imports this module before all others.
"""

import sys

__all__ = ["nats"]

HIDDEN = "aiohttp"

_was_there = HIDDEN in sys.modules
if not _was_there:
    sys.modules[HIDDEN] = None  # type: ignore[assignment]  # to an import this says that there is no such module
try:
    import nats
finally:
    if not _was_there:
        del sys.modules[HIDDEN]
