"""One association on the event loop: streams (plain, TLS), buffers, deadlines, and its negotiation.

The loop owns every socket from accept or connect to close, in both directions. Only ``negotiate`` knows pynetdicom; it
turns bytes into bytes and runs in a small pool of threads. Importing this package imports none of its modules.
"""
