"""Conversion of an image's transfer syntax: `convert` (the work,
in a worker process), `codecs` (one frame), `frames` (where frames are), `elements` and `reencode` (the header's bytes),
`image` (what describes pixels), `lossy` (what is said of a loss). `core.syntaxes` says what is tried in which order.

Guarantees: what is not lossy by name is checked pixel by pixel before it is used; memory holds one frame at a time;
header bytes stay as they are but for what the new syntax needs. Failures: ``errors.NotPossible``, ``errors.Broken``.
"""
