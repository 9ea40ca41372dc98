"""The power fails, again and again, on a file system that keeps only what was synced; and syncs fail."""
