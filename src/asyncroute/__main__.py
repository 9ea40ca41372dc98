"""``python -m asyncroute``: the same as the command ``asyncroute``."""

from asyncroute.cli import main

main()
