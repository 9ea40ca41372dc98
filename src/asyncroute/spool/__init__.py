"""The spool: one Part 10 file per image, from receipt to release.

``base`` is the interface, ``local`` the first backend.
"""
