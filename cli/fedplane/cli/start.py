"""The very beginning of the program: so little that Ctrl-C while the rest is being loaded ends it as it does later, without a traceback."""

import sys

__all__ = ["main"]

EXIT_INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended: 128 and the number of SIGINT."""


def main() -> None:
    """Load the command line and run it."""
    try:
        from fedplane.cli.main import main as run  # noqa: PLC0415 -- loading it takes a third of a second, in which people press Ctrl-C

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
