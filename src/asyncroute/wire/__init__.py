"""DICOM bytes without I/O: what arrives is parsed, what leaves is built; no socket or file is read or written here.

Each module works on buffers that its caller owns and holds no reference to them after it returns, unless it says so.
"""
