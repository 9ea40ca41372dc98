"""A person's ``Selection`` as SQL conditions. Guarantees: values are always bound, never pasted into the text."""

from __future__ import annotations

from collections.abc import Collection

from asyncroute.core.model import Selection
from asyncroute.core.states import DeliveryState
from asyncroute.journal.values import clean, json_ids, uid_key

Parameters = dict[str, object]

NOT_THERE = (
    "NOT EXISTS (SELECT 1 FROM delivery AS there"
    " WHERE there.instance = d.instance AND there.destination = :target AND there.state <> 6)"
)
"""Of an image that neither goes nor went to the destination of number ``target``."""


def _image(selection: Selection) -> tuple[list[str], Parameters]:
    """The conditions on the image (alias ``i``)."""
    terms: list[str] = []
    values: Parameters = {}
    if selection.sop_instance_uid is not None:
        terms.append("i.uid_key = :uid_key AND i.sop_instance_uid = :sop_instance_uid")
        values |= {
            "uid_key": uid_key(selection.sop_instance_uid),
            "sop_instance_uid": clean(selection.sop_instance_uid),
        }
    if selection.study_uid is not None:
        terms.append("i.study_uid = :study_uid")
        values["study_uid"] = clean(selection.study_uid)
    if selection.accession is not None:
        terms.append("i.accession = :accession")
        values["accession"] = clean(selection.accession)
    if selection.instance_ids is not None:
        terms.append("i.id IN (SELECT value FROM json_each(:ids))")
        values["ids"] = json_ids(selection.instance_ids)
    if selection.error is not None:
        values["error"] = clean(selection.error)
    if selection.before is not None:
        values["before"] = selection.before
    return terms, values


def deliveries(selection: Selection, states: Collection[DeliveryState]) -> tuple[str, Parameters]:
    """FROM and WHERE (aliases ``d``, ``i``) of the open deliveries selected that are in one of ``states``."""
    terms, values = _image(selection)
    terms.append("d.state IN (0, 1, 2, 5)")
    numbers = ", ".join(str(int(state)) for state in sorted(states)) or "-1"  # no state is -1
    terms.append(f"d.state IN ({numbers})")
    if selection.destination is not None:
        terms.append("d.destination = (SELECT id FROM destination WHERE name = :destination)")
        values["destination"] = clean(selection.destination)
    if selection.error is not None:
        terms.append("instr(lower(d.last_error), lower(:error))")
    if selection.before is not None:
        terms.append("d.queued_at < :before")
    by_image = selection.sop_instance_uid is not None or selection.instance_ids is not None
    first = (
        "instance AS i CROSS JOIN delivery AS d"
        if by_image
        else ("delivery AS d INDEXED BY delivery_open CROSS JOIN instance AS i")
    )
    return f"FROM {first} WHERE d.instance = i.id AND {' AND '.join(terms)}", values


def held(selection: Selection) -> tuple[str, Parameters]:
    """``FROM`` and ``WHERE`` (alias ``i``) of the selected held images."""
    terms, values = _image(selection)
    if selection.error is not None:
        terms.append("instr(lower(i.hold_reason), lower(:error))")
    if selection.before is not None:
        terms.append("i.received_at < :before")
    return f"FROM instance AS i WHERE {' AND '.join(['i.hold_reason IS NOT NULL', *terms])}", values
