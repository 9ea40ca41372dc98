"""Watch folders and batches: images that come as files (see ``batches``)."""
