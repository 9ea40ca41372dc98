"""De-identification beyond the table: real files, pseudonyms, private attributes, what is refused, what follows."""

from __future__ import annotations

import random

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from asyncroute.core.coercion import Coercion
from asyncroute.core.deidentification import Deidentify
from asyncroute.transform import phi
from asyncroute.transform.base import Facts, Header, Refused
from asyncroute.transform.cleaning import clean
from asyncroute.transform.compiled import Compiled, compiled
from asyncroute.transform.confidentiality import Action, Table
from asyncroute.transform.deidentify import earlier
from asyncroute.transform.elements import top
from asyncroute.transform.pseudonyms import Pseudonyms
from tests.unit.transform.test_confidentiality import BIG, EXPLICIT, IMPLICIT, NAMES, SECRET, UID, encoded, run
from tests.unit.transform.test_real_files import ODD, some

CT = "1.2.840.10008.5.1.4.1.1.2"
ALL = Deidentify(frozenset({"patient", "device", "institution", "uids", "safe-private"}), "keep", 3650, "clean", "pass")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def transform(rule: Deidentify, secret: bytes = SECRET) -> Compiled:
    return compiled((Coercion("research", (rule,), ("deidentify",), secret=secret),))


def image(**more: object) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = CT, UID, "1.2.3"
    ds.Modality, ds.Rows = "CT", 1
    ds.PatientName, ds.PatientID, ds.AccessionNumber = "Kowalczyk^Anna", "P-4711", "A77"
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


# ---- what makes pseudonyms useful


def test_the_same_patient_is_the_same_everywhere_and_only_with_this_secret() -> None:
    ct, told, _ = run(image(), Deidentify())
    mr, _, _ = run(image(Modality="MR", SOPInstanceUID="1.2.9", PatientName="KOWALCZYK^A"), Deidentify(), IMPLICIT)
    assert ct.PatientID == mr.PatientID == ct.PatientName == mr.PatientName
    assert ct.StudyInstanceUID == mr.StudyInstanceUID == NAMES.uid("1.2.3")
    assert ct.SOPInstanceUID != mr.SOPInstanceUID
    assert told.sop_instance_uid == ct.SOPInstanceUID
    other = Pseudonyms(b"another secret of thirty-two bytes")
    assert other.code("patient", "P-4711") != ct.PatientID
    assert {(link.kind, link.original, link.pseudonym) for link in told.links} == {
        ("patient", "P-4711", ct.PatientID),
        ("name", "Kowalczyk^Anna", ct.PatientID),
        ("accession", "A77", ct.AccessionNumber),
        ("study", "1.2.3", ct.StudyInstanceUID),
    }


def test_a_series_is_linked_where_it_has_another_uid() -> None:
    _, told, _ = run(image(SeriesInstanceUID="1.2.3.7"), Deidentify())
    assert ("series", "1.2.3.7", NAMES.uid("1.2.3.7")) in {(x.kind, x.original, x.pseudonym) for x in told.links}
    _, told, _ = run(image(SeriesInstanceUID="1.2.3.7"), Deidentify(frozenset({"uids"})))
    assert {link.kind for link in told.links} == {"patient", "name", "accession"}


def test_pseudonyms_are_unlike_and_valid() -> None:
    codes = {NAMES.code("patient", str(n)) for n in range(2000)}
    uids = {NAMES.uid(f"1.2.{n}") for n in range(2000)}
    assert len(codes) == len(uids) == 2000
    assert all(len(code) == 16 and code.isalnum() for code in codes)
    assert all(len(uid) <= 64 and uid.startswith("2.25.") and uid[5] != "0" for uid in uids)
    assert NAMES.uid("1.2.840.10008.1.4.1.1") == "1.2.840.10008.1.4.1.1"
    assert NAMES.code("patient", "1") != NAMES.code("accession", "1")
    assert {NAMES.days(str(n), 7) for n in range(200)} == set(range(1, 8))


def test_patients_without_an_id_do_not_become_one() -> None:
    first, _, _ = run(image(PatientID=""), Deidentify())
    second, _, _ = run(image(PatientID="", StudyInstanceUID="1.2.4"), Deidentify())
    assert first.PatientID != second.PatientID


def test_references_lead_to_the_new_uids() -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, UID
    after, told, _ = run(image(ReferencedImageSequence=Sequence([item])), Deidentify())
    assert after.ReferencedImageSequence[0].ReferencedSOPInstanceUID == told.sop_instance_uid
    assert after.ReferencedImageSequence[0].ReferencedSOPClassUID == CT


def test_intervals_between_dates_stay_when_dates_are_earlier() -> None:
    rule = Deidentify(dates="shift")
    first, told, _ = run(image(StudyDate="20240229", PatientBirthDate="19500101"), rule)
    second, _, _ = run(image(StudyDate="20240310"), rule)
    assert int(earlier("20240310", 10) == "20240229")
    days = next(int(link.original.split()[0]) for link in told.links if link.kind == "shift")
    assert first.StudyDate == earlier("20240229", -days)
    assert earlier(second.StudyDate, 10) == first.StudyDate
    assert first.PatientBirthDate == ""
    assert (first.LongitudinalTemporalInformationModified, rule.days) == ("MODIFIED", 3650)


def test_times_stay_as_they_are_when_dates_are_earlier_but_only_times() -> None:
    ds = image(StudyDate="20240229", StudyTime="101112.5", ContentTime="after Kowalczyk", SeriesTime="10:11:12")
    after, _, _ = run(ds, Deidentify(dates="shift"))
    assert [after.StudyTime, after.SeriesTime, after.ContentTime] == ["101112.5", "10:11:12", ""]
    header = Header(encoded(ds, EXPLICIT), EXPLICIT, CT, UID)
    changes = transform(Deidentify(dates="shift")).apply(header, Facts()).changes
    assert {"StudyDate", "ContentTime"} <= {change.attribute for change in changes}
    assert not {"StudyTime", "SeriesTime"} & {change.attribute for change in changes}


@pytest.mark.parametrize(
    ("text", "days", "after"),
    [
        ("20240301", 1, "20240229"),
        ("2024.03.01", 1, "2024.02.29"),
        ("202403", 1, "202402"),
        ("2024", 1, "2023"),
        ("20240301101112.123456+0100", 1, "20240229101112.123456+0100"),
        ("", 1, ""),
        ("20241301", 1, ""),
        ("00010101", 1, ""),
        ("Kowalczy", 1, ""),
        ("20240301Kowalczyk", 1, ""),
        ("20240301-20240302", 1, ""),
        ("2024+0100", 1, "2023+0100"),
    ],
)
def test_dates_move_as_exactly_as_they_were(text: str, days: int, after: str) -> None:
    assert earlier(text, days) == after


def test_what_was_done_is_recorded_beside_what_was_done_before() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113101", "DCM", "Clean Pixel Data Option"
    ds = image(DeidentificationMethodCodeSequence=Sequence([code]), DeidentificationMethod="by hand")
    for syntax in (EXPLICIT, IMPLICIT, BIG):
        after, _, _ = run(ds, ALL, syntax)
        assert after.PatientIdentityRemoved == "YES"
        assert list(after.DeidentificationMethod) == ["by hand", "asyncroute: PS3.15 Annex E Basic Profile, 2026d"]
        codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
        assert codes[:2] == ["113101", "113100"]
        assert set(codes[2:]) == {"113105", "113106", "113108", "113109", "113110", "113111", "113112"}
        again, _, _ = run(after, ALL, syntax)
        assert [item.CodeValue for item in again.DeidentificationMethodCodeSequence] == codes


# ---- what the table does not list


def test_private_attributes_go_but_safe_ones_where_they_may_stay() -> None:
    ds = image()
    for creator, group, element, vr, value in (
        ("SIEMENS MR HEADER", 0x0019, 0x0C, "IS", "1000"),
        ("SIEMENS MR HEADER", 0x0019, 0x0F, "LO", "Kowalczyk"),
        ("ACME 1", 0x0021, 0x01, "LO", "Kowalczyk"),
    ):
        ds.private_block(group, creator, create=True).add_new(element, vr, value)
    plain, _, data = run(ds, Deidentify())
    assert not [element for element in plain if element.tag.is_private]
    assert b"Kowalczyk" not in data
    kept, _, data = run(ds, Deidentify(frozenset({"safe-private"})))
    assert [element.value for element in kept if element.tag.is_private] == ["SIEMENS MR HEADER", 1000]
    assert b"Kowalczyk" not in data


def test_curves_overlays_unknown_and_unlisted_identifying_attributes_go() -> None:
    ds = image()
    ds.add_new(0x50003000, "OW", b"Kowalczy")
    ds.add_new(0x60020010, "US", 1)
    ds.add_new(0x60023000, "OW", b"Kowalczy")
    ds.add_new(0x00081999, "LO", "Kowalczyk")
    ds.add_new(0x00142006, "PN", "Kowalczyk")
    ds.add_new(0x00281199, "UI", "1.2.3.9")
    ds.RetrieveURL = "http://kowalczyk.example"
    after, _, data = run(ds, Deidentify())
    assert b"owalczy" not in data
    assert after[0x00281199].value == NAMES.uid("1.2.3.9")
    assert not [element for element in after if element.tag.group in (0x5000, 0x6002)]


def test_what_tells_as_much_as_what_the_table_lists_goes() -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "kowalczyk.example", "DNS"
    ds = image(PatientBirthDateInAlternativeCalendar="Kowalczyk 11", HL7InstanceIdentifier="1.2^Kowalczyk")
    ds.IssuerOfAccessionNumberSequence = ds.IssuerOfPatientIDQualifiersSequence = Sequence([issuer])
    ds.OrderPlacerIdentifierSequence = Sequence([issuer])
    ds.PlacerOrderNumberProcedure = "KOWALCZYK"
    step = Dataset()
    step.CommentsOnTheScheduledProcedureStep, step.OrderFillerIdentifierSequence = "ask Kowalczyk", Sequence([issuer])
    ds.PerformedProtocolCodeSequence = Sequence([step])
    before = Dataset()
    before.EncryptedContentTransferSyntaxUID, before.EncryptedContent = EXPLICIT, b"Kowalczyk!"
    ds.EncryptedAttributesSequence = Sequence([before])
    after, _, data = run(ds, Deidentify(frozenset({"patient", "institution"}), descriptors="clean"))
    assert b"owalczyk" not in data.lower()
    assert len(after.PerformedProtocolCodeSequence) == 1


def test_cleaned_text_keeps_what_is_not_known_to_identify() -> None:
    known = {"kowalczyk", "anna", "p", "4711"}
    assert clean("CT chest of Mrs. Smith, KOWALCZYK_Anna", known) == "CT chest of XXX, XXX_XXX"
    assert clean("T2 TSE 3mm 01.02.2024 p4711x 555-123 456", known) == "T2 TSE 3mm XXX XXX XXX"
    assert clean("me@example.org x", known) == "XXX x"


@pytest.mark.parametrize(
    ("name", "text", "after"),
    [
        ("Smith^John", "CT SmithJohn, SMITHJ, Smith2, smith's", "CT XXX, XXX, XXX, XXX's"),
        ("Smith^John", "JohnSmith_followup: mass in the hilum", "XXX_followup: mass in the hilum"),
        ("O'Brien^Pat", "CT OBrien / O'Brien", "CT XXX / O'XXX"),
        ("van der Berg^Jan", "vanderBerg thorax", "XXX thorax"),
        ("Müller^Jörg", "Mu\u0308ller MULLER Mueller Joerg Jorg", "XXX XXX XXX XXX XXX"),
        ("Mueller^Joerg", "Müller Jörg", "XXX XXX"),
        ("I\u015f\u0131k^\u0130brahim", "IŞIK ibrahim Isik", "XXX XXX XXX"),
        ("Παπαδόπουλος^Γιώργος", "ΠΑΠΑΔΟΠΟΥΛΟΣ θώρακας", "XXX θώρακας"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎のCT胸部 やまだ様", "XXXのCT胸部 XXX様"),
        ("Wang^XiaoDong=王^小东", "王小东 胸部CT, XiaoDong", "XXX 胸部CT, XXX"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "홍길동님 흉부", "XXX님 흉부"),
        ("Li^Bo", "liver of Li, lobe", "liver of XX, lobe"),
    ],
)
def test_names_are_found_in_text_as_people_write_them(name: str, text: str, after: str) -> None:
    ds = image(SpecificCharacterSet="ISO_IR 192", PatientName=name, StudyDescription=text)
    assert run(ds, Deidentify(descriptors="clean"))[0].StudyDescription == after


def test_names_are_found_in_text_that_the_table_does_not_list() -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "NOWAK1", "99NOWAK", "as Nowak does it"
    ds = image(ReferringPhysicianName="Nowak^Jo", ViewName="kowalczyk_anna", FilterType="3456", SequenceName="P4711 jo")
    ds.ProcedureCodeSequence = Sequence([code])
    after, _, _ = run(ds, Deidentify(descriptors="clean"))
    assert [after.ViewName, after.FilterType, after.SequenceName] == ["XXX_XXX", "3456", "XXX jo"]
    [item] = after.ProcedureCodeSequence
    assert [item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning] == ["NOWAK1", "99NOWAK", "as XXX does it"]
    assert run(ds, Deidentify())[0].ViewName == "kowalczyk_anna"


def test_text_in_which_nobody_is_named_keeps_its_bytes() -> None:
    ds = image(SpecificCharacterSet="ISO_IR 192", StudyDescription="Scha\u0308del")
    assert "Scha\u0308del".encode() in run(ds, Deidentify(descriptors="clean"))[2]


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87"])
def test_cleaned_text_stays_in_its_character_set(charset: str) -> None:
    word = "山田" if "87" in charset else "Müller"
    ds = image(SpecificCharacterSet=charset.split("\\"), PatientName=word, StudyDescription=f"Thorax {word} links")
    after, _, _ = run(ds, Deidentify(descriptors="clean"))
    assert word not in after.StudyDescription
    assert after.StudyDescription in ("Thorax XXX links", "Thorax XX links")


def test_cleaned_text_keeps_its_code_extensions() -> None:
    ds = image(
        SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Kowalczyk", StudyDescription="胸部 Kowalczyk 山田"
    )
    after, _, _ = run(ds, Deidentify(descriptors="clean"))
    assert after.StudyDescription == "胸部 XXX 山田"


def test_what_text_is_left_is_listed() -> None:
    ds = image(StudyDescription="Thorax", SeriesDescription="for Dr. Smith")
    _, told, data = run(ds, Deidentify(descriptors="clean"))
    listed = phi.listing(Header(data, EXPLICIT, CT, told.sop_instance_uid))
    assert ("StudyDescription", "LO", ("Thorax",), 0x00081030) in listed
    assert ("SeriesDescription", "LO", ("for XXX",), 0x0008103E) in listed
    assert "DeidentificationMethodCodeSequence.0.CodeMeaning" in [text.attribute for text in listed]


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "sop_class", "text"),
    [
        ({"BurnedInAnnotation": "YES"}, CT, "Burned In Annotation"),
        ({"RecognizableVisualFeatures": "YES"}, CT, "recognized"),
        ({"Modality": "US"}, CT, "modality US"),
        ({"Modality": "ES", "BurnedInAnnotation": ""}, CT, "modality ES"),
        ({}, "1.2.840.10008.5.1.4.1.1.6.1", "SOP Class"),
        ({}, "1.2.840.10008.5.1.4.1.1.7", "SOP Class"),
        ({}, "1.2.840.10008.5.1.4.1.1.7.4", "SOP Class"),
        ({}, "1.2.840.10008.5.1.4.1.1.77.1.1.1", "SOP Class"),
        ({"ConversionType": "WSD"}, CT, "converted"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, CT, "SCREEN SAVE"),
    ],
)
def test_images_that_may_show_who_they_are_of_are_refused(change: dict[str, object], sop_class: str, text: str) -> None:
    ds = image(**change)
    header = Header(encoded(ds, EXPLICIT), EXPLICIT, sop_class, UID, False)
    with pytest.raises(Refused, match=text):
        transform(Deidentify()).apply(header, Facts())
    if ds.get("BurnedInAnnotation") != "YES" and "RecognizableVisualFeatures" not in ds:
        ds.BurnedInAnnotation = "NO"
        header = Header(encoded(ds, EXPLICIT), EXPLICIT, sop_class, UID, False)
        assert transform(Deidentify()).apply(header, Facts()).anonymous
    assert transform(ALL).apply(header, Facts()).links


def test_documents_and_overlays_within_pixels_are_refused() -> None:
    ds = image(EncapsulatedDocument=b"Kowalczy")
    with pytest.raises(Refused, match="encapsulated document"):
        run(ds, ALL)
    ds = image()
    ds.add_new(0x60000010, "US", 1)
    with pytest.raises(Refused, match="overlay within its pixels"):
        run(ds, Deidentify())


def test_what_was_is_not_recorded_whatever_another_transform_says() -> None:
    recorded = Coercion("other", (), (), record=True)
    both = compiled((Coercion("research", (Deidentify(),), ("deidentify",), secret=SECRET), recorded))
    edited = both.apply(Header(encoded(image(), EXPLICIT), EXPLICIT, CT, UID, False), Facts())
    assert b"Kowalczyk" not in bytes(edited.data)
    assert edited.anonymous
    assert both.edits_tail
    assert not both.quick


# ---- real files


def test_real_headers_lose_what_identifies_and_keep_the_bytes_of_the_rest() -> None:
    seen = 0
    for name, data, syntax in some(4):
        step = transform(Deidentify(burned_in="pass"))
        if b"\x42\x00\x11\x00" in data or name in ODD:
            continue
        edited = step.apply(Header(data, syntax, CT, UID, False), Facts())
        new = bytes(edited.data)
        assert {"PatientIdentityRemoved", "DeidentificationMethod"} <= {change.attribute for change in edited.changes}
        for link in edited.links:
            if len(link.original) > 5 and not link.original.startswith("study"):
                assert link.original.encode("latin-1", "replace") not in new, (name, link)
        before, after = top(data, syntax), top(new, syntax)
        table = Table(())
        for tag in before.tags():
            if table.action(tag) is Action.KEEP and before.items(tag) is None and tag & 0xFFFF and tag >> 16 != 0x12:
                assert before.value(tag) == after.value(tag), (name, hex(tag))
        seen += 1
    assert seen > 12


# ---- behind the header


def tail(data: bytes, syntax: str, sizes: random.Random) -> bytes:
    header = Header(encoded(image(), syntax), syntax, CT, UID, False)
    editor, found, pos = transform(Deidentify()).tail(header), b"", 0
    while pos < len(data):
        step = sizes.choice((1, 2, 3, 7, 8, 11, 64))
        found += b"".join(editor.feed(memoryview(data)[pos : pos + step]))
        pos += step
    return found + b"".join(editor.finish())


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("encapsulated", [False, True])
def test_only_pixels_pass_behind_the_header(syntax: str, encapsulated: bool) -> None:
    if encapsulated and syntax != EXPLICIT:
        return
    pixels, after = Dataset(), Dataset()
    pixels.add_new(0x7FE00010, "OW" if not encapsulated else "OB", b"\1\2" * 50)
    after.add_new(0x7FE10010, "LO", "ACME")
    after.add_new(0x7FE11001, "LO", "Kowalczyk")
    signature = Dataset()
    signature.MACIDNumber = 1
    after.add_new(0xFFFAFFFA, "SQ", Sequence([signature]))
    after.add_new(0xFFFCFFFC, "OB", b"Kowalczyk1")
    first = encoded(pixels, syntax)
    if encapsulated:
        item = b"\xfe\xff\x00\xe0"
        first = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + item + bytes(4) + item + b"\6\0\0\0abcdef"
        first += b"\xfe\xff\xdd\xe0\0\0\0\0"
    rest = encoded(after, syntax)
    for seed in range(8):
        assert tail(first + rest, syntax, random.Random(seed)) == first
