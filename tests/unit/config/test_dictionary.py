"""The tables of attributes and UIDs: pydicom's, without pydicom."""

from __future__ import annotations

import subprocess
import sys

from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import tag_for_keyword

from asyncroute.config import dictionary


def test_they_are_those_of_pydicom() -> None:
    assert dictionary.attributes() == DicomDictionary
    assert dictionary.uids() == UID_dictionary
    assert len(dictionary.keywords()) > 4000
    assert all(tag_for_keyword(keyword) == tag for keyword, tag in dictionary.keywords().items())


def test_a_configuration_is_read_without_the_rest_of_pydicom() -> None:
    text = (
        '[[listener]]\n[[destination]]\nname = "a"\nkind = "folder"\npath = "/a"\nlayout = "{PatientID}/{Modality}"\n'
    )
    program = (
        "import sys; from asyncroute.config import loads; "
        f"loads({text!r}); print('pydicom' in sys.modules, 'numpy' in sys.modules); "
        "import pydicom; print(pydicom.datadict.tag_for_keyword('PatientID') == 0x00100020)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
