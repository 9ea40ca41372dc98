"""Synthetic images: the same settings give the same bytes, on every machine, and none of them is held in memory twice.

A data set is a head made by pydicom (some hundred elements, sequences and private ones among them) in which UIDs and
numbers of the image and its study are replaced in place, and pixel data cut from one block of noise that all images
share. So an image of 1 GB is a list of views of 16 MiB. Explicit VR little endian, uncompressed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import xxhash
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items

from asyncroute.wire.part10 import build_meta

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7"
"""Secondary Capture: no attribute of it depends on the size."""
TRANSFER_SYNTAX = "1.2.840.10008.1.2.1"

SIZES = {"tiny": 4 << 10, "small": 34 << 10, "medium": 512 << 10, "large": 30 << 20, "huge": 1 << 30}
"""Bytes of a data set, about, by the name of its kind."""

_BLOCK = 16 << 20
_ROOT = "2.25."
_UID_DIGITS = 39
_PIXELS = struct.Struct("<HH2sHI")


def uid(*parts: object) -> str:
    """A UID of always the same length, from what it stands for."""
    number = xxhash.xxh3_128_intdigest("/".join(map(str, parts)).encode()) % 10 ** (_UID_DIGITS - 1)
    return f"{_ROOT}{number + 10 ** (_UID_DIGITS - 1)}"


@cache
def noise() -> memoryview:
    """Pixel data for everybody: random bytes, the same at each call."""
    return memoryview(random.Random(20240917).randbytes(_BLOCK))


@dataclass(frozen=True)
class Image:
    """One data set: its SOP Instance UID, length in bytes, and content as views to be sent in order."""

    uid: str
    size: int
    parts: Sequence[memoryview]

    def digest(self) -> int:
        """XXH3 (64 bits) of the whole data set."""
        state = xxhash.xxh3_64()
        for part in self.parts:
            state.update(part)
        return state.intdigest()


class Corpus:
    """``count`` images of one kind, ``per_study`` in each study; ``corpus[i]`` makes the i-th one."""

    def __init__(self, kind: str, count: int, per_study: int = 20, seed: str = "1") -> None:
        self.kind = kind
        self.count = count
        self.per_study = max(per_study, 1)
        self._seed = f"{seed}/{kind}"
        self._heads: dict[int, bytes] = {}

    @property
    def studies(self) -> list[range]:
        """The numbers of the images of each study."""
        return [range(at, min(at + self.per_study, self.count)) for at in range(0, self.count, self.per_study)]

    def uid(self, number: int) -> str:
        """The SOP Instance UID of an image."""
        return uid(self._seed, "image", number)

    def __getitem__(self, number: int) -> Image:
        """The image of this number."""
        head = bytearray(self._head(number // self.per_study))
        template, name = _template(), self.uid(number)
        template.put(head, IMAGE, name)
        template.put(head, NUMBER, f"{number % 1_000_000:06d}")
        pixels = max(SIZES[self.kind] - len(head), 256) & ~1
        head += _PIXELS.pack(0x7FE0, 0x0010, b"OW", 0, pixels)
        return Image(name, len(head) + pixels, [memoryview(head), *_cut(number, pixels)])

    def _head(self, study: int) -> bytes:
        """The header of a study's images."""
        found = self._heads.get(study)
        if found is None:
            template = _template()
            head = bytearray(template.bytes)
            template.put(head, STUDY, uid(self._seed, "study", study))
            template.put(head, SERIES, uid(self._seed, "series", study))
            template.put(head, PATIENT, f"P{study % 1_000_000:07d}")
            template.put(head, ACCESSION, f"A{study % 1_000_000:07d}")
            found = self._heads[study] = bytes(head)
        return found

    def write(self, folder: Path) -> None:
        """All images as DICOM files, for programs that send only those."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.count):
            image = self[number]
            with (folder / f"{number:06d}.dcm").open("wb") as file:
                file.write(build_meta(SOP_CLASS, image.uid, TRANSFER_SYNTAX))
                file.writelines(image.parts)


def _cut(number: int, size: int) -> list[memoryview]:
    """``size`` bytes of noise that begin elsewhere for each image."""
    block, at, parts = noise(), number * 4098 % (_BLOCK - 2), []
    while size:
        take = min(size, _BLOCK - at)
        parts.append(block[at : at + take])
        size -= take
        at = 0
    return parts


IMAGE, STUDY, SERIES = (uid("place of", name) for name in ("image", "study", "series"))
NUMBER, PATIENT, ACCESSION = "777777", "P9999999", "A8888888"
"""What stands in the template where each image has its own; each of the length that all of them have."""


def _only(data: bytes, text: str) -> int:
    """Where the text stands; it must stand there only."""
    if data.count(text.encode()) != 1:
        raise ValueError(f"{text!r} stands {data.count(text.encode())} times in the template")
    return data.index(text.encode())


class Template:
    """A header, and where its replaceable values stand."""

    def __init__(self, data: bytes) -> None:
        self.bytes = data
        self._places = {text: _only(data, text) for text in (IMAGE, STUDY, SERIES, NUMBER, PATIENT, ACCESSION)}

    def put(self, head: bytearray, name: str, value: str) -> None:
        """Replace a value; one of another length would move all that follows."""
        if len(value) != len(name):
            raise ValueError(f"{value!r} is not as long as {name!r}")
        at = self._places[name]
        head[at : at + len(value)] = value.encode()


@cache
def _template() -> Template:
    """What a modality sends: patient, study, series, equipment, image; about a hundred elements with the items'."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID, ds.InstanceNumber = SOP_CLASS, IMAGE, NUMBER
    _describe_study(ds)
    _describe_patient(ds)
    _describe_equipment(ds)
    _describe_image(ds)
    buffer = BytesIO()
    dcmwrite(buffer, ds, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return Template(buffer.getvalue())


def _describe_study(ds: Dataset) -> None:
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", "20240915")
        setattr(ds, f"{kind}Time", "081512.250000")
    ds.AccessionNumber, ds.Modality = ACCESSION, "CT"
    ds.ReferringPhysicianName = "Referrer^Anna"
    ds.StudyDescription, ds.SeriesDescription = "chest with contrast", "axial 1.25 mm"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, uid("frame")
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 1, 1
    ds.ProcedureCodeSequence = Items([_code("P5-0808E", "chest")])
    ds.ReferencedPerformedProcedureStepSequence = Items([_reference()])
    ds.RequestAttributesSequence = Items([_step()])
    ds.RequestedProcedureDescription = "Chest with contrast"
    ds.PerformedProcedureStepID, ds.PerformedProcedureStepDescription = "PPS1", "chest"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = "20240915", "081500"


def _describe_patient(ds: Dataset) -> None:
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Müller^Jonas", PATIENT, "HOSP"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19680115", "M", "056Y"
    ds.PatientWeight, ds.PatientSize, ds.PatientComments = "71.5", "1.78", "no known allergies"
    ds.OtherPatientIDsSequence = Items([Dataset(), Dataset()])
    for number, other in enumerate(ds.OtherPatientIDsSequence):
        other.PatientID, other.TypeOfPatientID = f"X{number}", "TEXT"


def _describe_equipment(ds: Dataset) -> None:
    ds.Manufacturer, ds.ManufacturerModelName = "ACME Medical", "Model 3000"
    ds.InstitutionName, ds.InstitutionAddress = "Northside General", "1 Hospital Road"
    ds.InstitutionalDepartmentName, ds.StationName = "Radiology", "ST02"
    ds.PerformingPhysicianName, ds.OperatorsName = "Doctor^One", "Tech^Two"
    ds.SoftwareVersions, ds.DeviceSerialNumber = ["syn 7.1", "b42"], "40003"
    ds.BodyPartExamined, ds.ProtocolName, ds.PatientPosition = "CHEST", "Routine", "HFS"
    ds.KVP, ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure = "120", "500", "200", "100"
    ds.FilterType, ds.GeneratorPower, ds.FocalSpots, ds.ConvolutionKernel = "BODY", "24", "1.2", "B30f"
    ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = "0", "152", "CW"
    ds.DataCollectionDiameter, ds.ReconstructionDiameter = "500", "360"
    block = ds.private_block(0x0029, "ACME PRIVATE 1.0", create=True)
    for element in range(0x10, 0x20):
        block.add_new(element, "LO", f"private value {element}")
    block.add_new(0x20, "OB", bytes(range(256)))


def _describe_image(ds: Dataset) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = 512, 512
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelSpacing, ds.SliceThickness, ds.SliceLocation = ["0.7", "0.7"], "1.25", "12.50"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-180", "-180", "12.5"], ["1", "0", "0", "0", "1", "0"]
    ds.WindowCenter, ds.WindowWidth, ds.RescaleIntercept, ds.RescaleSlope = "1040", "400", "-1024", "1"
    ds.LossyImageCompression, ds.BurnedInAnnotation, ds.ConversionType = "00", "NO", "WSD"


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SRT", meaning
    return item


def _reference() -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.3", uid("step")
    return item


def _step() -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "SPS1", "RP1"
    item.ScheduledProtocolCodeSequence = Items([_code("P5-09051", "CT of chest")])
    return item
