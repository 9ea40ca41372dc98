"""What was delivered is kept, in the form received: tiers of storage, an index of what lies where, and the way back.

``intake`` takes images from the spool when they are done with, ``mover`` moves whole studies to later tiers and ends
what is old, ``replays`` sends archived images again; ``tier`` is one tier's folder, ``base`` the index as a Protocol.
"""
