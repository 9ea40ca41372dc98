"""Lanes that deliver: DICOM associations and folders. ``base`` is what a channel knows of them."""
