"""Why an image is not converted. Both have one line for a person."""

from __future__ import annotations


class NotPossible(Exception):
    """There is no such thing: this image cannot be in that syntax, or not without a loss. It can be sent otherwise."""


class Broken(Exception):
    """The image is not what it says: its pixel data cannot be read, in the codec's words."""
