"""The benchmark's images are the same each time, differ from each other, and are DICOM."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.corpus import SIZES, Corpus


def content(corpus: Corpus, number: int) -> bytes:
    return b"".join(corpus[number].parts)


def test_the_same_settings_give_the_same_bytes() -> None:
    assert content(Corpus("small", 10), 7) == content(Corpus("small", 10), 7)
    assert content(Corpus("small", 10), 7) != content(Corpus("small", 10, seed="2"), 7)


def test_every_image_has_bytes_of_its_own() -> None:
    corpus = Corpus("tiny", 50)
    assert len({corpus[n].digest() for n in range(50)}) == 50
    assert len({corpus[n].uid for n in range(50)}) == 50


@pytest.mark.parametrize("kind", SIZES)
def test_sizes_are_as_named_and_nothing_is_held_twice(kind: str) -> None:
    image = Corpus(kind, 3)[2]
    assert sum(map(len, image.parts)) == image.size
    assert abs(image.size - SIZES[kind]) < 1024
    assert len(image.parts[0]) < 8192  # all else is shared
    assert len({id(part.obj) for part in image.parts[1:]}) == 1


def test_images_are_files_that_pydicom_reads(tmp_path: Path) -> None:
    Corpus("small", 6, per_study=2).write(tmp_path)
    found = [dcmread(path) for path in sorted(tmp_path.iterdir())]
    assert [ds.InstanceNumber for ds in found] == list(range(6))
    assert len({ds.StudyInstanceUID for ds in found}) == 3
    assert len({ds.PatientID for ds in found}) == 3
    assert all(len(list(ds.iterall())) >= 100 for ds in found)
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in found)


def test_what_is_sent_is_the_data_set_of_the_file(tmp_path: Path) -> None:
    corpus = Corpus("small", 1)
    corpus.write(tmp_path)
    data = (tmp_path / "000000.dcm").read_bytes()
    assert data.endswith(content(corpus, 0))
    assert dcmread(io.BytesIO(data)).SOPInstanceUID == corpus[0].uid
