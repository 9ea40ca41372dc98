"""Measures asyncroute against other routers: sender -> router -> sinks, each a process of its own, loopback only.

``python -m benchmarks`` runs scenarios and prints ratios; see README.md beside this file. What a run proves besides:
every data set arrived, once, with the bytes that were sent, or the figures say how many did not.
"""
