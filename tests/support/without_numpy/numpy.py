"""Stands before the numpy of the tests where programs are started: an installation has none, and none is faster."""

from __future__ import annotations

raise ImportError("asyncroute is installed without numpy")
