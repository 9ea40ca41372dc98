"""asyncroute: a DICOM router that loses nothing.

The way of an image, one room each::

    modality --> link --> receive --> admit --> [journal] --> channel queue --> lane --> link --> PACS
                                        |                                       |
                                      spool (one Part 10 file per image) <------+--> settle -> journal -> release

- ``wire``: DICOM bytes, without I/O: P-DATA, command sets, data set headers, Part 10 File Meta.
- ``link``: one association on the event loop: streams (plain, TLS), negotiation, deadlines, buffers.
- ``receive``: listeners and the acceptor's side of an association.
- ``admit``: limits, routes, group commit, answer. Nothing is acknowledged before it is on stable storage.
- ``spool`` and ``journal``: the image files and the durable queue of their deliveries.
- ``route``: from a data set header to its deliveries.
- ``queue``: one channel per destination: what is ready, which lanes are busy, when to pause.
- ``forward``: lanes that deliver: DICOM associations, folders.
- ``commit``: the group commit that ``admit``, ``settle`` and ``administer`` share; ``release``: files whose image is
  done leave the spool, in a later step than the settlement of their last delivery.
- ``settle``: results into the journal. ``administer``: a person's words into the journal.
- ``recover``: what a crash left behind.
- ``status`` and ``cli``: what an administrator sees and says.
- ``app``: puts the parts together; the only module that knows the concrete ones.
"""

__version__ = "0.1.0"
