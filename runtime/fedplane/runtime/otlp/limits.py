"""How long telemetry may keep a process waiting, and under which name it is sent."""

__all__ = ["SCOPE", "STOP_SECONDS"]

STOP_SECONDS = 3.0
"""How long a stopping process tries to send its last spans and values, and how long one attempt may take before that."""

SCOPE = "fedplane"
"""The instrumentation scope of everything."""
