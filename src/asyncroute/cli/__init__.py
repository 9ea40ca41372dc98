"""The command line: one file per group of commands.

Only the module of the command that is called is imported. At its top it imports what every command needs (typer,
words); what it works with is imported when it runs, so that ``asyncroute --help`` and ``asyncroute status`` answer at
once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process; ends the process with its exit status."""
    from asyncroute.cli.root import run

    sys.exit(run(sys.argv[1:]))
