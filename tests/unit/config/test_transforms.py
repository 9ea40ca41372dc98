"""Transforms in a configuration: what is understood, and the exact words for what is not."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from asyncroute.config import loads
from asyncroute.core import coercion
from asyncroute.core.errors import ConfigError
from asyncroute.core.paths import Step

BASE = """\
[[listener]]
[[destination]]
name = "out"
kind = "folder"
path = "out"
[[route]]
name = "r"
to = ["out"]
transform = ["a"]
[transform.a]
"""  # the next line is 11


def understood(text: str, folder: Path | None = None) -> coercion.Coercion:
    config = loads(BASE + text, "x.toml", folder / "x.toml" if folder else None)
    (found,) = config.coercions(config.routes[0])
    return found


def told(text: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        understood(text, folder)
    return str(caught.value)


STEP = "x.toml:11: transform.a.steps[0]"
WRONG = [
    ('{ prefx = "PatientID", with = "x" }', f'{STEP}: unknown step "prefx", did you mean "prefix"?'),
    ('{ with = "x" }', f"{STEP}: does not say what to do: "),
    ('"upper"', f'{STEP}: must be a table in braces, such as {{ set = "Modality", to = "CT" }}, not "upper"'),
    ('{ set = "PatientID", prefix = "PatientID", to = "x" }', f'{STEP}: is "set" and "prefix" in one: '),
    ('{ upper = "PatientI" }', f'{STEP}.upper: unknown attribute, did you mean "PatientID"?'),
    ('{ prefix = "PatientID", with = "x", wth = "x" }', f'{STEP}.wth: unknown key "wth", did you mean "with"?'),
    ('{ prefix = "PatientID" }', f"{STEP}.with: is missing"),
    ('{ prefix = "PatientID", with = "" }', f"{STEP}.with: must not be empty"),
    ('{ set = "PatientID" }', f'{STEP}.set: needs either "to" (text, with attributes in braces) or "from"'),
    ('{ set = "PatientID", to = "a", from = "Modality" }', f'{STEP}.set: needs either "to"'),
    ('{ set = "PatientID", to = "{a" }', f'{STEP}.to: has braces that do not match in "{{a"'),
    ('{ set = "PatientID", to = "{PatientNam}" }', f'{STEP}.to: "{{PatientNam}}": unknown attribute, did you mean "'),
    ('{ set = "PatientID", to = "{calling_ae}" }', f'{STEP}.to: "{{calling_ae}}": unknown attribute, did you mean "ca'),
    ('{ set = "PatientID", from = "hsh(Modality, 3)" }', f'{STEP}.from: has the unknown function "hsh", did you mean'),
    ('{ set = "PatientID", from = "hash(Modality)" }', f'{STEP}.from: has "hash(Modality)": write hash(X, N) with N '),
    ('{ set = "PatientID", from = "hash(Modality, 65)" }', f'{STEP}.from: has "hash(Modality, 65)": write hash('),
    ('{ set = "(0029,xx10,ACME)", to = "x" }', f"{STEP}.set: (0029,xx10,ACME) is not in the data dictionary: add vr ="),
    ('{ set = "PatientID", to = "x", vr = "US" }', f"{STEP}.set: has VR LO; it cannot have VR US"),
    ('{ set = "ReferencedImageSequence", to = "x" }', f"{STEP}.set: ReferencedImageSequence is a sequence; name an"),
    ('{ set = "PixelData", to = "x" }', f"{STEP}.set: PixelData belongs to the pixel data, which are never touched"),
    ('{ set = "(0008,0000)", to = "x" }', f"{STEP}.set: (0008,0000) is a group length"),
    ('{ delete = "PixelData" }', f"{STEP}.delete: PixelData belongs to the pixel data"),
    ('{ delete = "(7FE0,xxxx)" }', f"{STEP}.delete: (7FE0,xxxx) cannot be deleted"),
    (
        '{ set = "(7FE1,xx10,ACME)", to = "x", vr = "LO" }',
        f"{STEP}.set: (7FE1,xx10,ACME) stands behind the pixel data, where only delete reaches it",
    ),
    (
        '{ suffix = "DigitalSignaturesSequence.0.MACIDNumber", with = "1" }',
        f"{STEP}.suffix: DigitalSignaturesSequence.",
    ),
    ('{ copy = "PatientID", to = "(7FE1,1010)", vr = "LO" }', f"{STEP}.to: (7FE1,1010) stands behind the pixel data"),
    (
        '{ delete = "DigitalSignaturesSequence.MACIDNumber" }',
        f"{STEP}.delete: DigitalSignaturesSequence.MACIDNumber stands behind the pixel data, where sequences can only",
    ),
    (
        '{ set = "PatientID", from = "(7FE1,xx10,ACME)" }',
        f'{STEP}.from: "{{(7FE1,xx10,ACME)}}": (7FE1,xx10,ACME) stands',
    ),
    ('{ replace = "PatientID", old = "re:(", with = "x" }', f"{STEP}.old: is not a regular expression: missing )"),
    ('{ replace = "PatientID", old = "", with = "x" }', f"{STEP}.old: must not be empty"),
    ("{ replace = 'PatientID', old = 're:(a)', with = '\\2' }", f'{STEP}.replace: "with" refers to a group that is'),
    ('{ pad = "PatientID", size = 0 }', f"{STEP}.size: must be 1..10240, not 0"),
    ('{ pad = "PatientID", size = 3, with = "ab" }', f'{STEP}.with: must be one character, not "ab"'),
    ('{ pad = "PatientID", size = 3, side = "up" }', f'{STEP}.side: must be "left" or "right", not "up"'),
    ('{ copy = "PatientID", to = "PatientID" }', f"{STEP}.copy: leads to where it comes from"),
    ('{ map = "PatientID", file = "no.csv" }', f"{STEP}.file: no such file: "),
    ('{ map = "PatientID", file = "three.csv" }', f'{STEP}.file: "three.csv": line 2 has 3 columns; two are needed'),
    ('{ map = "PatientID", file = "twice.csv" }', f'{STEP}.file: "twice.csv": line 2: "a" is there already, with '),
    ('{ map = "PatientID", file = "ids.csv", default = "x", missing = "hold" }', f"{STEP}.missing: has no meaning"),
    ('{ python = "site.py" }', f'{STEP}.python: must be a file and a function, such as "site_a.py:coerce"'),
    ('{ python = "site.py:f" }', f"{STEP}.python: no such file: "),
    ("{ new_uids = true }", f'{STEP}.new_uids: needs "secret" or "secret_file" in its transform'),
    ("{ shift_dates = false }", f"{STEP}.shift_dates: must be true, not false: leave the step out instead"),
]


@pytest.mark.parametrize(("step", "words"), WRONG, ids=[step for step, _ in WRONG])
def test_a_mistake_is_told_at_its_key(step: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "three.csv").write_text("a,b\na,b,c\n")
    (tmp_path / "twice.csv").write_text("a,b\na,c\n")
    (tmp_path / "ids.csv").write_text("a;b\n")
    problem = told(f"steps = [{step}]", tmp_path)
    assert problem.startswith(words)
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", "x.toml:10: transform.a.steps: is missing"),
        ("steps = []", "x.toml:11: transform.a.steps: must have at least one step"),
        ('steps = "x"', 'x.toml:11: transform.a.steps: must be a list of tables in brackets, not "x"'),
        (
            'misft = "hold"\nsteps = [{upper = "Modality"}]',
            'x.toml:11: transform.a.misft: unknown key "misft", did you',
        ),
        (
            'secret = "short"\nsteps = [{upper = "Modality"}]',
            "x.toml:11: transform.a.secret: must have at least 16 cha",
        ),
        (
            'steps = [{upper = "Modality"}]\n[transform]\nb = 1',
            "x.toml:13: transform.b: must be a table of keys in bra",
        ),
    ],
)
def test_a_table_may_be_wrong(table: str, words: str, tmp_path: Path) -> None:
    assert told(table, tmp_path).startswith(words)


def test_a_route_names_transforms_that_exist(tmp_path: Path) -> None:
    text = BASE.replace('transform = ["a"]', 'transform = ["b", "a", "a"]') + 'steps = [{ upper = "Modality" }]'
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.toml")
    assert str(caught.value).splitlines() == [
        'x.toml:9: route[0].transform[0]: no transform is called "b"; there is "a"',
        'x.toml:9: route[0].transform[2]: "a" is there already',
    ]


def test_steps_are_plain_data(tmp_path: Path) -> None:
    (tmp_path / "ids.toml").write_text('"1" = "one"\n2 = 3\n')
    (tmp_path / "site.py").write_text("def f(ds, facts): return ds\n")
    found = understood(
        'misfit = "truncate"\nrecord = true\nsecret = "0123456789abcdef"\n'
        'steps = [{ fill = "(0029,xx10,ACME 1.1)", from = "crc32(PatientID)", vr = "LO" },'
        '{ map = "RequestAttributesSequence.0.AccessionNumber", file = "ids.toml", default = "{{{calling_aet}}}" },'
        '{ python = "site.py:f" }, { delete = "(0029,xxxx)" }, { delete = "private" }, { new_uids = true }]',
        tmp_path,
    )
    fill, lookup, python, group, private, uids = found.steps
    assert fill == coercion.Set(
        coercion.Target((Step(0x00290010, "ACME 1.1"),), "(0029,xx10,ACME 1.1)", "LO", True),
        (coercion.Function("crc32", coercion.Target((Step(0x00100020),), "PatientID", "LO")),),
        empty_only=True,
    )
    assert isinstance(lookup, coercion.Lookup)
    assert lookup.table == {"1": "one", "2": "3"}
    assert lookup.target.path == (Step(0x00400275, item=0), Step(0x00080050))
    assert lookup.default == ("{", coercion.Fact("calling_aet"), "}")
    assert python == coercion.Python(tmp_path / "site.py", "f")
    assert group == coercion.Delete(None, 0x29)
    assert isinstance(private, coercion.Delete)
    assert private.private
    assert uids == coercion.NewUids()
    assert (found.misfit, found.record, found.secret, found.words[0]) == ("truncate", True, b"0123456789abcdef", "fill")
    assert pickle.loads(pickle.dumps(found)) == found
    assert "0123456789abcdef" not in repr(found)


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    assert understood('secret_file = "key"\nsteps = [{ new_uids = true }]', tmp_path).secret == b"0123456789abcdef"
    (tmp_path / "key").write_text("short\n")
    assert told('secret_file = "key"\nsteps = [{ new_uids = true }]', tmp_path) == (
        "x.toml:11: transform.a.secret_file: must have at least 16 characters in it"
    )
