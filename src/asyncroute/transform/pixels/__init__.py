"""Conversion of an image's transfer syntax: `syntaxes` (what is wanted and tried in which order), `convert` (the work,
in a worker process), `codecs` (one frame), `frames` (where frames are), `elements` and `reencode` (the header's bytes),
`image` (what describes pixels), `conversions` (who asks, what is kept).

Guarantees: what is not lossy by name is checked pixel by pixel before it is used; memory holds one frame at a time;
header bytes stay as they are but for what the new syntax needs. Failures: ``errors.NotPossible``, ``errors.Broken``.
"""
