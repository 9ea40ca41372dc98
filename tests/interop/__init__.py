"""The router among real peers: everything arrives where its route says, with the bytes it came with."""
