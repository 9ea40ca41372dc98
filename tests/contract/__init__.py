"""One suite for each Protocol, run over every backend of it."""
