"""The command line. Nothing here imports torch before a command that needs it runs."""

import sys


def main() -> None:
    """Runs the program, see `frugan.cli.app.main`."""
    try:
        from frugan.cli.app import main as run
    except KeyboardInterrupt:  # its modules take a while
        sys.stderr.write("frugan: interrupted\n")
        sys.exit(130)
    run()


__all__ = ["main"]
