"""The journal: every image and every delivery, durable until settled.

``base`` has the verbs, ``sqlite`` and ``reader`` are the first backend.
"""
