"""What compression costs: ``python -m benchmarks.codecs`` prints a table of real CT, MR and CR images.

Each line: MB of pixels per second of processor time (reading, encoding, comparing, writing; median of ``TRIES``
alternating runs) and how many times smaller the pixels become, for each image. dcmtk's and GDCM's tools, where they
are installed, start a process for each image, as they would in a script.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import data_store
import xxhash

from asyncroute.core.syntaxes import BY_WORD, Wish, lossy
from asyncroute.transform.pixels.convert import convert
from asyncroute.wire.part10 import parse_meta

IMAGES = {"CT 16 bit": "693_UNCR.dcm", "MR 12 bit": "MR2_UNCR.dcm", "CR 10 bit": "RG3_UNCR.dcm"}
TRIES = 3
TOOLS = {
    "dcmcrle (dcmtk)": ("dcmcrle",),
    "dcmcjpls (dcmtk)": ("dcmcjpls",),
    "dcmcjpeg +e1 (dcmtk)": ("dcmcjpeg", "+e1"),
    "gdcmconv --rle": ("gdcmconv", "--rle"),
    "gdcmconv --jpegls": ("gdcmconv", "--jpegls"),
    "gdcmconv --jpeg": ("gdcmconv", "--jpeg"),
    "gdcmconv --j2k": ("gdcmconv", "--j2k"),
}

Make = Callable[[Path, Path], None]


def of_ours(word: str, verify: bool) -> Make:
    """The router's own conversion."""

    def make(source: Path, target: Path) -> None:
        data = source.read_bytes()
        meta = parse_meta(data)
        plain = data[meta.data_offset :]
        uids = meta.transfer_syntax, meta.sop_class_uid, meta.sop_instance_uid
        told = convert(
            (str(source), meta.data_offset, len(plain), *uids, xxhash.xxh3_64_intdigest(plain)),
            str(target),
            BY_WORD[word],
            asdict(Wish(word, verify=verify)),
            ("A", "B", "C"),
            (1 << 32, 0),
        )
        if "refused" in told:
            raise ValueError(told["refused"])

    return make


def of_tool(words: tuple[str, ...]) -> Make:
    """Another program."""
    return lambda source, target: subprocess.run([*words, str(source), str(target)], check=True, capture_output=True)  # type: ignore[return-value]


def forms() -> Iterator[tuple[str, Make]]:
    """What is measured, with its name."""
    for word in BY_WORD:
        if word != "none":
            checked = not lossy(BY_WORD[word])
            yield f'`compress = "{word}"`', of_ours(word, True)
            if checked:
                yield f'`compress = "{word}"`, `verify = false`', of_ours(word, False)
    for name, words in TOOLS.items():
        if shutil.which(words[0]):
            yield name, of_tool(words)


def spent() -> float:
    """Seconds of processor time of this process and those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measured(make: Make, source: Path, target: Path) -> float:
    """Seconds of one run."""
    begun = spent()
    make(source, target)
    return spent() - begun


def main() -> None:
    """Print the table."""
    root = Path(str(data_store.__file__)).parent / "data"
    sources = {name: next(root.rglob(file)) for name, file in IMAGES.items()}
    names = " | ".join(f"{name}: MB/s | ratio" for name in sources)
    print(f"| | {names} |\n|---|{'---:|---:|' * len(sources)}")
    with tempfile.TemporaryDirectory() as folder:
        every = list(forms())
        times: dict[tuple[str, str], list[float]] = {}
        sizes: dict[tuple[str, str], int] = {}
        for _ in range(TRIES):
            for form, make in every:
                for name, source in sources.items():
                    target = Path(folder) / "made.dcm"
                    try:
                        times.setdefault((form, name), []).append(measured(make, source, target))
                        sizes[form, name] = target.stat().st_size
                    except (ValueError, subprocess.CalledProcessError):
                        times[form, name] = []
        for form, _ in every:
            print(f"| {form} |", *(_cells(times[form, n], sizes.get((form, n), 0), s) for n, s in sources.items()))


def _cells(times: list[float], size: int, source: Path) -> str:
    if not times:
        return "- | - |"
    whole = source.stat().st_size
    return f"{whole / 1e6 / statistics.median(times):.0f} | {whole / size:.2f} |"


if __name__ == "__main__":
    main()
