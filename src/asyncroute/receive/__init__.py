"""Listeners and the acceptor's side of an association: from the first byte of a connection to a whole image."""
