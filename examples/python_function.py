"""What python-function.toml does with each image. The header is a pydicom Dataset without pixel data."""

from asyncroute.transform.user import Hold


def describe(header, facts):
    """Fill in the study's description from the protocol; hold what has no patient."""
    if not header.get("PatientID"):
        raise Hold("no Patient ID")
    if not header.get("StudyDescription") and header.get("ProtocolName"):
        header.StudyDescription = f"{header.ProtocolName} ({facts.calling_aet})"
    return header
