"""`compress` with codecs that are not installed, and its keys against each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.config import codecs, load
from asyncroute.core.errors import ConfigError
from asyncroute.core.syntaxes import Wish

FILE = """
[node]
data_dir = "/var/lib/x"

[[listener]]
ae_title = "A"
port = 11112

[[destination]]
name = "pacs"
kind = "dicom"
host = "pacs"
port = 104
ae_title = "PACS"
"""


def wish(tmp_path: Path, lines: str) -> Wish:
    path = tmp_path / "x.toml"
    path.write_text(FILE + lines)
    return load(path).destinations[0].wish


def wrong(tmp_path: Path, lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        wish(tmp_path, lines)
    return str(caught.value)


def test_what_compress_means(tmp_path: Path) -> None:
    assert wish(tmp_path, "") == Wish()
    assert wish(tmp_path, "transcode = true") == Wish(transcode=True)
    assert wish(tmp_path, 'compress = "jpeg-ls"') == Wish("jpeg-ls", transcode=True)
    lossy = 'compress = "j2k"\ncompression = { ratio = 20, keep_uid = true }'
    assert wish(tmp_path, lossy) == Wish("j2k", True, ratio=20, keep_uid=True)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('compress = "rle"\ntranscode = false', 'transcode: cannot be false with compress = "rle", which converts'),
        ('compress = "zip"', "compress: must be "),
        ('compress = "rle"\ncompression = { ratio = 5 }', 'compression: "ratio" is only for compress = "j2k"'),
        ("compression = { verify = false }", 'compression: "verify" is only for compress = "rle" or "jpeg-ls"'),
        ('compress = "j2k"\ncompression = { ratio = 1 }', "compression.ratio: must be 2..1000, not 1"),
        ('compress = "jpeg-ls-near"\ncompression = { error = 0 }', "compression.error: must be 1..255, not 0"),
    ],
)
def test_wrong_keys_are_refused(lines: str, text: str, tmp_path: Path) -> None:
    assert text in wrong(tmp_path, lines)


def test_a_codec_that_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "find_spec", lambda module: None if module in ("jpeg_ls", "imagecodecs") else module)
    text = wrong(tmp_path, 'compress = "jpeg-ls"')
    words = 'JPEG-LS Lossless needs a codec that is not installed ("imagecodecs"): pip install "asyncroute[codecs]"'
    assert f"x.toml:15: destination[0].compress: {words}" in text


def test_a_note_says_what_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.toml"
    path.write_text(FILE + "transcode = true")
    assert codecs.warnings(load(path).destinations) == []
    monkeypatch.setattr(codecs, "find_spec", lambda module: None)
    [line] = codecs.warnings(load(path).destinations)
    assert line.startswith('destination "pacs": compressed images cannot be decoded here')
    assert line.endswith('pip install "asyncroute[codecs]"')
