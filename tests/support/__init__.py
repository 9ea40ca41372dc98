"""The test bench: real peers, real sockets, real processes.

``exact_sender`` and ``exact_receiver`` speak the DICOM upper layer with code of their own (``ul``): a mistake in
the router's wire code cannot hide behind the same mistake in its tests; they transport data set bytes as they are.
``router`` runs the program under test through its command line only. ``peers`` runs dcmtk, Orthanc and pynetdicom.
"""
