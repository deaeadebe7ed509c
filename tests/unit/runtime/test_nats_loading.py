"""What a process loads of the client library, and what it does not."""

import subprocess
import sys


def told(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_no_process_loads_aiohttp_before_it_needs_it_and_then_has_it() -> None:
    roles = ("scheduler", "aggregator", "status", "collaborator", "collaborator.driver", "cli")
    mains = ", ".join(f"fedplane.{role}.main" for role in roles)

    assert told(f"import sys, {mains}; print('aiohttp' in sys.modules); import fedplane.cli.posting as p; print(p.aiohttp.__name__)") == (
        "False\naiohttp\n"
    )


def test_who_has_loaded_aiohttp_keeps_it() -> None:
    assert told("import sys, aiohttp, fedplane.runtime.nats; print(sys.modules['aiohttp'] is aiohttp)") == "True\n"
