"""What every service stands on: the ports to the bus, the one loop, telemetry, settings. It imports schemas and nothing above itself."""
