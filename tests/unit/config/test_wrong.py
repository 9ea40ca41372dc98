"""Wrong configurations, and the exact words in which each is told."""

from __future__ import annotations

import pytest

from asyncroute.config import loads
from asyncroute.core.errors import ConfigError

# Nine lines that are right; the snippets of the table begin at line 10.
BASE = """\
[[listener]]
port = 11112
[[destination]]
name = "pacs"
kind = "dicom"
host = "10.0.0.5"
port = 104
ae_title = "PACS"
calling_ae_title = "ROUTER"
"""
LISTENER = "[[listener]]\nport = 11113\n"  # lines 10 and 11
DICOM = '[[destination]]\nname = "two"\nkind = "dicom"\nhost = "h"\nport = 104\nae_title = "B"\n'  # lines 10 to 15
FOLDER = '[[destination]]\nname = "dir"\nkind = "folder"\npath = "out"\n'  # lines 10 to 13
TLS = LISTENER + "[listener.tls]\ncertificate = '/dev/null'\nkey = '/dev/null'\n"  # lines 10 to 14
MUTUAL = TLS + "client_ca = '/dev/null'\n"  # lines 10 to 15
RATE = 'must be a rate such as "20 MB/s" or "500 KiB/s"'
RATES = 'or a table such as { "Mon-Fri 08:00-18:00" = "5 MB/s", else = "50 MB/s" }'
HOURS = 'must be hours such as "18:00-06:00", "Sat,Sun" or "Mon-Fri 18:00-06:00 Europe/Berlin"'
SIZE = 'must be a size such as "128 KiB", "1 GiB" or "20 MB", or a number of bytes'
ARCHIVE = "[archive]\ntiers = [{ path = '/a' }]\n"  # lines 10 and 11
MOVE_IN = "[archive]\ntiers = [{{ path = '/a' }}, {{ path = '/b', move_in = {{ {} }} }}]"
MOMENT = 'must be a time of day such as "02:00", "Sat 02:00" or "Mon-Fri 02:00 Europe/Berlin"'
ROUTE = '[[route]]\nname = "r"\nto = ["pacs"]\n'  # lines 10 to 12

WATCH = '[[watch]]\nname = "w"\npath = "/usr"\n'  # lines 10 to 12

WRONG = [
    # --- watches
    ('[[watch]]\nname = "w"', 'x.toml:10: watch[0]: needs a "path"'),
    ('[[watch]]\nname = "w"\nmode = "batch"', 'x.toml:10: watch[0]: needs "paths", a list of folders (or one "path")'),
    ('[[watch]]\nname = "w"\npath = "/nowhere"', 'x.toml:12: watch[0].path: no such folder: "/nowhere"'),
    ('[[watch]]\nname = "w"\npath = "/dev/null"', 'x.toml:12: watch[0].path: is not a folder: "/dev/null"'),
    (
        WATCH + '[[watch]]\nname = "v"\npath = "/usr/lib"',
        'x.toml:15: watch[1].path: "/usr/lib" and "/usr" of watch[0] lie within each other: each needs its own',
    ),
    (WATCH + 'after = "move:/usr"', 'x.toml:13: watch[0].after: moves into a folder that watch[0] reads: "/usr"'),
    (
        WATCH + 'after = "move:"',
        'x.toml:13: watch[0].after: must be "leave", "delete" or "move:DIR"; "move:" names no folder',
    ),
    (
        WATCH + '[node]\ndata_dir = "/usr/lib/asyncroute"',
        'x.toml:12: watch[0].path: must not be where this router keeps its own files: "/usr"',
    ),
    (
        ROUTE + 'match = { watch = "x" }',
        'x.toml:13: route[0].match.watch: no watch is called "x"; there is no [[watch]]',
    ),
    # --- proof of deliveries
    ("[[peer]]\nae_title = 'CT'\nhost = 'h'", "x.toml:10: peer[0].port: is missing"),
    (
        "[[peer]]\nae_title = 'CT'\nhost = 'h'\nport = 104\n" * 2,
        'x.toml:15: peer[1].ae_title: "CT" is already the AE title of peer[0]',
    ),
    (
        "[[peer]]\nae_title = 'CT'\nhost = 'h'\nport = 2762\ntls = { key = 'ct.key' }",
        'x.toml:14: peer[0].tls: needs both "certificate" and "key", or neither',
    ),
    ("[peer]\nae_title = 'CT'", "x.toml:10: peer: must be written [[peer]], with double brackets"),
    (
        DICOM + 'verify = "commit"',
        'x.toml:10: destination[1].calling_ae_title: must be one fixed title where verify = "commit", '
        'because the destination reports to it; "{calling_aet}" is none',
    ),
    (
        DICOM + 'calling_ae_title = "RT_{listener}"\nverify = "commit"',
        'x.toml:16: destination[1].calling_ae_title: must be one fixed title where verify = "commit", '
        'because the destination reports to it; "RT_{listener}" is none',
    ),
    (
        DICOM + 'verify = "commit"\ncalling_ae_title = "US"',
        'x.toml:17: destination[1].calling_ae_title: no listener accepts "US" as called AE title, '
        'so the destination could not report to it (verify = "commit"): add it to accept_called',
    ),
    # --- archive
    ("[[archive]]\ntiers = []", "x.toml:10: archive: must be written [archive], with single brackets"),
    ("[archive]\ntiers = []", "x.toml:11: archive.tiers: must have at least one tier"),
    (ARCHIVE + 'layout = "../{PatientID}"', 'x.toml:12: archive.layout: cannot contain ".."'),
    (
        ARCHIVE + 'layout = ".x/{PatientID}"',
        'x.toml:12: archive.layout: cannot have a folder or file whose name begins with "."',
    ),
    (
        ARCHIVE + 'keep = "never"',
        'x.toml:12: archive.keep: cannot be "never": write "forever", or leave the whole table out',
    ),
    (ARCHIVE + 'keep = "0s"', 'x.toml:12: archive.keep: must be "1s" or more, not "0s"'),
    (
        ARCHIVE + 'keep = "ever"',
        'x.toml:12: archive.keep: must be a duration such as "30s", "10m", "1h30m", "7d" or "forever", not "ever"',
    ),
    (ARCHIVE + "keeps = 1", 'x.toml:12: archive.keeps: unknown key "keeps", did you mean "keep"?'),
    (ARCHIVE + 'at = "02:00"', 'x.toml:12: archive.at: unknown key "at" here; it belongs in "move_in" of a tier'),
    (
        "[archive]\ntiers = [{ path = '/a' }, { path = '/b', move_in = { hour = '1:00-2:00' } }]",
        'x.toml:11: archive.tiers[1].move_in.hour: unknown key "hour", did you mean "hours"?',
    ),
    (
        "[archive]\ntiers = [{ path = '/a' }, { path = '/b' }]",
        'x.toml:11: archive.tiers[1]: "move_in" is missing: it says when this tier takes in what the one before it has',
    ),
    (
        "[archive]\ntiers = [{ path = '/a', move_in = { at = '02:00' } }]",
        "x.toml:11: archive.tiers[0].move_in: is for later tiers: the first one gets every image when it is delivered",
    ),
    (
        "[archive]\ntiers = [{ path = '/a' }, { path = '/b', move_in = { hours = '1:00-2:00' } }]",
        'x.toml:11: archive.tiers[1].move_in: needs a reason to move: "at", "below_free" or "older_than"',
    ),
    (MOVE_IN.format('at = "2 am"'), f'x.toml:11: archive.tiers[1].move_in.at: {MOMENT}, not "2 am"'),
    (MOVE_IN.format('at = "25:00"'), f'x.toml:11: archive.tiers[1].move_in.at: {MOMENT}, not "25:00"'),
    (MOVE_IN.format("at = 2"), f"x.toml:11: archive.tiers[1].move_in.at: {MOMENT}, not 2"),
    (MOVE_IN.format('at = "02:00-03:00"'), f'x.toml:11: archive.tiers[1].move_in.at: {MOMENT}, not "02:00-03:00"'),
    (
        MOVE_IN.format('at = "Sam 02:00"'),
        f'x.toml:11: archive.tiers[1].move_in.at: {MOMENT}, not "Sam 02:00"',
    ),
    (
        MOVE_IN.format('older_than = "never"'),
        'x.toml:11: archive.tiers[1].move_in.older_than: cannot be "never": nothing else would end the wait',
    ),
    (
        "[node]\ndata_dir = '/d'\n[archive]\ntiers = [{ path = '/d/spool/x' }]",
        'x.toml:13: archive.tiers[0].path: must not be where this router keeps its own files: "/d/spool/x"',
    ),
    (
        "[node]\ndata_dir = '/d/x'\n[archive]\ntiers = [{ path = '/d' }]",
        'x.toml:13: archive.tiers[0].path: must not be where this router keeps its own files: "/d"',
    ),
    (
        "[archive]\ntiers = [{ path = '/a' }, { path = '/a/b', move_in = { at = '02:00' } }]",
        'x.toml:11: archive.tiers[1].path: overlaps with "/a", which is tier 1',
    ),
    (
        FOLDER.replace('"out"', '"/a/out"') + "[archive]\ntiers = [{ path = '/a' }]",
        'x.toml:15: archive.tiers[0].path: overlaps with "/a/out", which is where destination "dir" writes',
    ),
    ("[archive]\ntiers = [{ path = '/dev/null' }]", 'x.toml:11: archive.tiers[0].path: is not a folder: "/dev/null"'),
    # --- keys
    (LISTENER + "prot = 1", 'x.toml:12: listener[1].prot: unknown key "prot", did you mean "port"?'),
    ("[node]\nfoo = 1", 'x.toml:11: node.foo: unknown key "foo"'),
    ("[nodes]", 'x.toml:10: nodes: unknown key "nodes", did you mean "node"?'),
    ("[[destinations]]", 'x.toml:10: destinations: unknown key "destinations", did you mean "destination"?'),
    ("[path]", 'x.toml:10: path: unknown key "path"'),
    (LISTENER + "drain = '1s'", 'x.toml:12: listener[1].drain: unknown key "drain" here; it belongs in [node]'),
    (
        FOLDER + "ae_title = 'X'",
        'x.toml:14: destination[1].ae_title: unknown key "ae_title" here; '
        'it belongs in [[listener]] or a destination of kind "dicom" or [[peer]]',
    ),
    (
        DICOM + "retry = { frist = '1s' }",
        'x.toml:16: destination[1].retry.frist: unknown key "frist", did you mean "first"?',
    ),
    (DICOM + "retry.max_tries = 1", 'x.toml:16: destination[1].retry.max_tries: unknown key "max_tries"'),
    (DICOM + '"host " = 1', 'x.toml:16: destination[1]."host ": unknown key "host ", did you mean "host"?'),
    # --- shape
    ("[[node]]", "x.toml:10: node: must be written [node], with single brackets"),
    ("[route]\nname = 'r'", "x.toml:10: route: must be written [[route]], with double brackets"),
    (DICOM + "retry = 3", "x.toml:16: destination[1].retry: must be a table of keys in braces, not 3"),
    (DICOM + "tls = true", "x.toml:16: destination[1].tls: must be a table of keys in braces, not true"),
    ('[[route]]\nname = "r"\nto = "pacs"', 'x.toml:12: route[0].to: must be a list in brackets: ["pacs"]'),
    ('[[route]]\nname = "r"\nto = []', "x.toml:12: route[0].to: must name at least one destination"),
    ('[[route]]\nname = "r"\nto = ["pacs", 3]', "x.toml:12: route[0].to[1]: must be text in quotes, not 3"),
    ('[[route]]\nname = "r"', "x.toml:10: route[0].to: is missing"),
    (FOLDER.replace('path = "out"\n', ""), "x.toml:10: destination[1].path: is missing"),
    # --- numbers, durations, sizes
    ("[[listener]]\nport = 70000", "x.toml:11: listener[1].port: must be 0..65535, not 70000"),
    ('[[listener]]\nport = "104"', 'x.toml:11: listener[1].port: must be a whole number, 0..65535, not "104"'),
    (DICOM.replace("= 104", "= 0"), "x.toml:14: destination[1].port: must be 1..65535, not 0"),
    *(
        (f"{DICOM}bandwidth = {value}", f"x.toml:16: destination[1].bandwidth: {text}")
        for value, text in [
            ("20", f"{RATE}, {RATES}, not 20"),
            ('"20 MB"', f'{RATE}, {RATES}, not "20 MB"'),
            ('"fast/s"', f'{SIZE}, not "fast", and "/s" behind it'),
            ('"100 Mbit/s"', 'has the unknown unit "Mbit"; write "100 MiB" or "100 MB", and "/s" behind it'),
            ('"5 KB/s"', 'must be "10 KB/s" or more, not "5 KB/s"'),
            ("{}", 'must not be empty: a table such as { "Mon-Fri 08:00-18:00" = "5 MB/s", else = "50 MB/s" }'),
            ('{ else = "2 MB" }', f'at "else" {RATE}, or "unlimited", not "2 MB"'),
            ('{ "never" = "1 MB/s" }', f'"never" {HOURS}, not "never"; for all other times write "else"'),
            (
                '{ "08:00-09:00" = "1 MB/s", "9-5" = "2 MB/s" }',
                '"9-5" has times that are none: "9-5"; write "HH:MM-HH:MM"; for all other times write "else"',
            ),
        ]
    ),
    (
        DICOM + "max_associations = 2.5",
        "x.toml:16: destination[1].max_associations: must be a whole number, 1..1000, not 2.5",
    ),
    (DICOM + "max_contexts = 129", "x.toml:16: destination[1].max_contexts: must be 1..128, not 129"),
    (DICOM + "max_contexts = true", "x.toml:16: destination[1].max_contexts: must be a whole number, 1..128, not true"),
    ("[node]\ndrain = 30", 'x.toml:11: node.drain: must have a unit, such as "30s", "30m" or "30h"'),
    ('[node]\ndrain = "30"', 'x.toml:11: node.drain: must have a unit, such as "30s", "30m" or "30h"'),
    (
        '[node]\ndrain = "30 secs"',
        'x.toml:11: node.drain: must be a duration such as "30s", "10m", "1h30m", "7d" or "never", not "30 secs"',
    ),
    ('[node]\ndrain = "never"', 'x.toml:11: node.drain: cannot be "never": nothing else would end the wait'),
    ('[node]\nhistory = "0s"', 'x.toml:11: node.history: must be "100ms" or more, not "0s"'),
    ('[node]\nmemory = "32 MiB"', 'x.toml:11: node.memory: must be 64 MiB or more, not "32 MiB"'),
    ('[node]\nmemory = "256 M"', 'x.toml:11: node.memory: has the unknown unit "M"; write "256 MiB" or "256 MB"'),
    ("[node]\nmin_free = -1", "x.toml:11: node.min_free: must be 0 bytes to 1024 PiB"),
    (LISTENER + 'max_pdu = "2 MiB"', 'x.toml:12: listener[1].max_pdu: must be 4 KiB to 1 MiB, not "2 MiB"'),
    *(
        (f"{ROUTE}{key} = {value}", f'x.toml:13: route[0].{key}: only with when = "complete"')
        for key, value in [("complete", '"study"'), ("quiet", '"60s"'), ("at_latest", '"30m"'), ("late", '"send"')]
    ),
    (
        f'{ROUTE}late = "hold"\nwhen = "now"',
        'x.toml:13: route[0].late: only with when = "complete"',
    ),
    (
        f'{ROUTE}when = "complete"\nquiet = "10m"\nat_latest = "5m"',
        'x.toml:15: route[0].at_latest: must not be shorter than "quiet", which is 10m',
    ),
    (
        f'{ROUTE}when = "complete"\nquiet = "1h"',
        'x.toml:10: route[0]: "quiet" must not be longer than "at_latest", which is 30m',
    ),
    (
        f'{ROUTE}when = "complete"\nat_latest = "10s"',
        'x.toml:14: route[0].at_latest: must not be shorter than "quiet", which is 1m',
    ),
    (
        f'{ROUTE}when = "complete"\ncomplete = "patient"',
        'x.toml:14: route[0].complete: must be "study" or "series", not "patient"',
    ),
    (
        f'{ROUTE}when = "complete"\nquiet = "never"',
        'x.toml:14: route[0].quiet: cannot be "never": nothing else would end the wait',
    ),
    (
        DICOM + 'retry = { first = "1h" }',
        'x.toml:16: destination[1].retry: "first" must not be longer than "max", which is 10m',
    ),
    (
        DICOM + 'retry = { first = "10s", max = "5s" }',
        'x.toml:16: destination[1].retry.max: must not be shorter than "first"',
    ),
    (DICOM + "retry = { factor = 0.5 }", "x.toml:16: destination[1].retry.factor: must be a number, 1..100, not 0.5"),
    (
        DICOM + 'hours = "18-06"',
        'x.toml:16: destination[1].hours: has times that are none: "18-06"; write "HH:MM-HH:MM"',
    ),
    (
        FOLDER + 'hours = ["18:00-06:00", "Mon-Fri 08:00-18:00 Europe/Berln"]',
        'x.toml:14: destination[1].hours: names a time zone that is not known here: "Europe/Berln"; '
        'write one such as "Europe/Berlin"',
    ),
    # --- words
    ('[node]\ndurability = "none"', 'x.toml:11: node.durability: must be "power-loss" or "process-crash", not "none"'),
    ("[node]\nunrouted = 1", 'x.toml:11: node.unrouted: must be "hold", "reject" or "discard", not 1'),
    (
        DICOM.replace('"dicom"', '"dcm"'),
        'x.toml:12: destination[1].kind: must be "dicom" or "folder", not "dcm"',
    ),
    (DICOM.replace('kind = "dicom"\n', ""), 'x.toml:10: destination[1].kind: is missing: "dicom" or "folder"'),
    (ROUTE + 'final = "yes"', 'x.toml:13: route[0].final: must be true or false, not "yes"'),
    (
        FOLDER + 'duplicates = "overwrite"',
        'x.toml:14: destination[1].duplicates: must be "keep-both", "replace" or "skip", not "overwrite"',
    ),
    # --- AE titles, names, addresses
    (
        LISTENER + 'ae_title = "A_VERY_LONG_TITLE"',
        'x.toml:12: listener[1].ae_title: must have at most 16 characters, not 17: "A_VERY_LONG_TITLE"',
    ),
    (
        LISTENER + 'ae_title = "   "',
        "x.toml:12: listener[1].ae_title: must not be empty: an AE title has 1 to 16 characters",
    ),
    (
        LISTENER + "ae_title = 'A\\B'",
        'x.toml:12: listener[1].ae_title: must be an AE title: printable ASCII characters, no backslash; not "A\\\\B"',
    ),
    (
        LISTENER + 'ae_title = "R\u00d6NTGEN"',
        "x.toml:12: listener[1].ae_title: must be an AE title: printable ASCII characters, no backslash; "
        'not "R\u00d6NTGEN"',
    ),
    (
        DICOM + 'calling_ae_title = "RT_{calling}"',
        'x.toml:16: destination[1].calling_ae_title: has "{calling}", which stands for nothing, '
        'did you mean "{calling_aet}"?',
    ),
    (
        DICOM + 'calling_ae_title = "{PatientID}"',
        'x.toml:16: destination[1].calling_ae_title: has "{PatientID}", which stands for nothing; '
        "there is {calling_aet}, {called_aet}, {listener}",
    ),
    (
        DICOM + 'calling_ae_title = "RT_{calling_aet"',
        'x.toml:16: destination[1].calling_ae_title: has braces that do not match in "RT_{calling_aet"',
    ),
    (
        DICOM + 'calling_ae_title = "RADIOLOGY_OF_TOWN_{listener}"',
        "x.toml:16: destination[1].calling_ae_title: is always too long: besides what is in braces it has "
        "18 characters, an AE title at most 16",
    ),
    (
        DICOM + 'calling_ae_title = "SIXTEEN_LETTERS_{listener}"',
        "x.toml:16: destination[1].calling_ae_title: is always too long: besides what is in braces it has "
        "16 characters, an AE title at most 16",
    ),
    (
        DICOM + "calling_ae_title = 'A\\B_{listener}'",
        "x.toml:16: destination[1].calling_ae_title: must be an AE title: printable ASCII characters, no backslash; "
        'not "A\\\\B_{listener}"',
    ),
    (
        DICOM + 'calling_ae_title = "A_VERY_LONG_TITLE"',
        'x.toml:16: destination[1].calling_ae_title: must have at most 16 characters, not 17: "A_VERY_LONG_TITLE"',
    ),
    (
        DICOM + 'calling_ae_title = " "',
        "x.toml:16: destination[1].calling_ae_title: must not be empty: an AE title has 1 to 16 characters",
    ),
    (
        ROUTE + 'calling_ae_title = "{listner}"',
        'x.toml:13: route[0].calling_ae_title: has "{listner}", which stands for nothing, did you mean "{listener}"?',
    ),
    (ROUTE + "calling_ae_title = 7", "x.toml:13: route[0].calling_ae_title: must be text in quotes, not 7"),
    (
        DICOM.replace('"two"', '"a@b"'),
        "x.toml:11: destination[1].name: must be a name: 1 to 64 printable characters without "
        '"@", "/" or outer spaces, not "a@b"',
    ),
    (
        DICOM.replace('"h"', '"10.0.0.5:104"'),
        "x.toml:13: destination[1].host: must be a host name or an IP address; "
        'the port is the key "port"; not "10.0.0.5:104"',
    ),
    (DICOM.replace('"h"', '""'), 'x.toml:13: destination[1].host: must be a host name or an IP address, not ""'),
    (
        LISTENER + 'accept_from = ["10.0.0.0/8",\n "10.1.2.3/16"]',
        'x.toml:13: listener[1].accept_from[1]: must be an address or a network (10.1.0.0/16?), not "10.1.2.3/16"',
    ),
    (
        LISTENER + 'accept_from = ["10.1.*"]',
        'x.toml:12: listener[1].accept_from[0]: must be an address or a network such as 10.1.0.0/16, not "10.1.*"',
    ),
    (
        LISTENER + "accept_calling = []",
        "x.toml:12: listener[1].accept_calling: must not be empty, nobody could send; "
        'leave the key out, or write ["*"], for anybody',
    ),
    (
        LISTENER + 'accept_called = [""]',
        'x.toml:12: listener[1].accept_called[0]: must not be empty; "*" is any AE title',
    ),
    (
        LISTENER + 'prefer = ["JPEG2000Loss"]',
        'x.toml:12: listener[1].prefer[0]: "JPEG2000Loss" is neither a UID nor the keyword of a transfer syntax, '
        'did you mean "JPEG2000Lossless"?',
    ),
    # --- between tables
    ("[[listener]]\nport = 11112", "x.toml:11: listener[1].port: 11112 is already used by listener[0]"),
    (
        '[[listener]]\nport = 11112\nhost = "127.0.0.1"',
        "x.toml:11: listener[1].port: 11112 is already used by listener[0]",
    ),
    (DICOM.replace('"two"', '"pacs"'), 'x.toml:11: destination[1].name: "pacs" is already the name of destination[0]'),
    (ROUTE + ROUTE, 'x.toml:14: route[1].name: "r" is already the name of route[0]'),
    (
        '[[route]]\nname = "r"\nto = ["pasc"]',
        'x.toml:12: route[0].to[0]: no destination is called "pasc", did you mean "pacs"?',
    ),
    (
        '[[route]]\nname = "r"\nto = [\n  "pacs",\n  "archive",\n]',
        'x.toml:14: route[0].to[1]: no destination is called "archive"; there is "pacs"',
    ),
    (
        DICOM.replace('"h"', '"127.0.0.1"').replace("104", "11112").replace('"B"', '"ASYNCROUTE"'),
        "x.toml:10: destination[1]: is this router's own listener[0]: images would go round for ever",
    ),
    (
        LISTENER + 'tls = { certificate = "/no/c.pem", key = "/no/k.pem" }',
        'x.toml:12: listener[1].tls.certificate: no such file: "/no/c.pem"\n'
        'x.toml:12: listener[1].tls.key: no such file: "/no/k.pem"',
    ),
    (
        DICOM + 'tls = { ca = "/dev" }',
        'x.toml:16: destination[1].tls.ca: is a folder, not a file: "/dev"',
    ),
    (
        LISTENER + "[listener.tls]\ncertificate = '/c'\n\nrequire_client = true",
        "x.toml:12: listener[1].tls.key: is missing\n"
        'x.toml:15: listener[1].tls.require_client: needs "client_ca": the certificate authority of the clients',
    ),
    (
        DICOM + 'tls = { certificate = "/no/c.pem" }',
        'x.toml:16: destination[1].tls: needs both "certificate" and "key", or neither',
    ),
    (
        LISTENER + "user_identity = { users_file = '/no/users' }",
        'x.toml:12: listener[1].user_identity.users_file: no such file: "/no/users"',
    ),
    (LISTENER + "user_identity = {}", "x.toml:12: listener[1].user_identity.users_file: is missing"),
    (
        LISTENER + "user_identity = { users_file = '/dev/null', require = true }",
        'x.toml:12: listener[1].user_identity.require: unknown key "require", did you mean "required"?',
    ),
    (
        TLS + "bind_ae = { CT_1 = 'ct1' }",
        'x.toml:15: listener[1].tls.bind_ae: needs "client_ca": without it callers show no certificate',
    ),
    (
        MUTUAL + "[listener.tls.bind_ae]\nCT_1 = 'ct1'\n'CT_2 ' = []\n\"*\" = ['a', 5]",
        'x.toml:18: listener[1].tls.bind_ae."CT_2 ": must name at least one certificate\n'
        'x.toml:19: listener[1].tls.bind_ae."*": must be text in quotes, not 5',
    ),
    (
        MUTUAL + "bind_ae = { CT_1 = 'SHA256:00:11' }",
        'x.toml:16: listener[1].tls.bind_ae.CT_1: must be "sha256:" and 64 hex digits, not "SHA256:00:11"',
    ),
    (
        MUTUAL + "bind_ae = { CT_1 = '' }",
        'x.toml:16: listener[1].tls.bind_ae.CT_1: must be the name of a certificate, or its fingerprint, not ""',
    ),
    (
        MUTUAL + "bind_ae = { '' = 'ct1' }",
        'x.toml:16: listener[1].tls.bind_ae."": must not be empty; "*" is any AE title',
    ),
    (
        MUTUAL + "bind_ae = ['CT_1']",
        "x.toml:16: listener[1].tls.bind_ae: must be a table of keys in braces, not a list",
    ),
    ('[node]\ndata_dir = "/"', "x.toml:11: node.data_dir: cannot be the root folder"),
    ('[node]\ndata_dir = ""', "x.toml:11: node.data_dir: must be a path, not empty"),
    ('[node]\ndata_dir = "/dev/null"', 'x.toml:11: node.data_dir: is not a folder: "/dev/null"'),
    (
        FOLDER.replace("out", "/var/lib/asyncroute/spool/x"),
        "x.toml:13: destination[1].path: must not be where this router keeps its own files: "
        '"/var/lib/asyncroute/spool/x"',
    ),
    # --- outcomes
    (
        DICOM + 'outcomes = { A9 = "retry" }',
        "x.toml:16: destination[1].outcomes.A9: is not a status: write four hex digits, "
        'such as "A900", "A7xx" or "Cxxx"',
    ),
    (
        DICOM + 'outcomes = { 0000 = "fail" }',
        "x.toml:16: destination[1].outcomes.0000: includes success, whose meaning cannot be changed",
    ),
    (
        DICOM + '[destination.outcomes]\nA900 = "retry"\nCxxx = "ignore"',
        'x.toml:18: destination[1].outcomes.Cxxx: must be "deliver", "retry", "slow-retry", "pause" or "fail", '
        'not "ignore"',
    ),
    # --- layouts
    (
        FOLDER + 'layout = "{PatientId}.dcm"',
        'x.toml:14: destination[1].layout: {PatientId}: unknown attribute, did you mean "PatientID"?',
    ),
    (FOLDER + 'layout = "../{SOPInstanceUID}"', 'x.toml:14: destination[1].layout: cannot contain ".."'),
    (
        FOLDER + 'layout = "/{SOPInstanceUID}"',
        'x.toml:14: destination[1].layout: must be relative to the destination\'s "path"; it cannot begin with "/"',
    ),
    (
        FOLDER + 'layout = "{StudyInstanceUID"',
        'x.toml:14: destination[1].layout: has braces that do not match in "{StudyInstanceUID"',
    ),
    (
        FOLDER + 'layout = "{PatientID}.dcm"\nduplicates = "replace"',
        'x.toml:15: destination[1].duplicates: cannot be "replace" unless "layout" contains {SOPInstanceUID}: '
        "images would be lost",
    ),
    # --- rules
    (ROUTE + 'match = "CT"', 'x.toml:13: route[0].match: must be a table, such as { Modality = "CT" }, not "CT"'),
    (
        ROUTE + 'match = { Modalty = "CT" }',
        'x.toml:13: route[0].match.Modalty: unknown attribute, did you mean "Modality"?',
    ),
    (
        ROUTE + 'match = { calling_ae = "CT" }',
        'x.toml:13: route[0].match.calling_ae: unknown attribute, did you mean "calling_aet"?',
    ),
    (
        ROUTE + 'match = { site = "A" }',
        "x.toml:13: route[0].match.site: unknown attribute; "
        "use a DICOM keyword such as Modality, or a tag such as (0008,0060)",
    ),
    (
        ROUTE + 'unless = { PatientName = "re:(" }',
        "x.toml:13: route[0].unless.PatientName: is not a regular expression: "
        "missing ), unterminated subpattern at position 0",
    ),
    (
        ROUTE + 'match = { PatientName = "re:(?\\n)" }',
        "x.toml:13: route[0].match.PatientName: is not a regular expression: unknown extension ?\\u000a at position 1",
    ),
    (
        ROUTE + "match = { Modality = true }",
        "x.toml:13: route[0].match.Modality: must be text in quotes, a number, or a list of them, not true",
    ),
    (
        ROUTE + "match.any = []",
        "x.toml:13: route[0].match.any: must be a list of tables, "
        'such as [{ Modality = "CT" }, { calling_aet = "CT_*" }]',
    ),
    (
        ROUTE + 'match.all = ["CT"]',
        "x.toml:13: route[0].match.all: must be a list of tables, "
        'such as [{ Modality = "CT" }, { calling_aet = "CT_*" }]',
    ),
    (
        ROUTE + 'match.not = [{ Modality = "CT" }]',
        'x.toml:13: route[0].match.not: must be a table, such as { Modality = "CT" }, not a list',
    ),
    (
        ROUTE + "match.not = {}",
        'x.toml:13: route[0].match.not: must be a table, such as { Modality = "CT" }, not empty',
    ),
    (
        ROUTE + 'match.any = [{ Modality = "CT" }, { not = { Modalty = "CT" } }]',
        'x.toml:13: route[0].match.any[1].not.Modalty: unknown attribute, did you mean "Modality"?',
    ),
    (
        ROUTE + 'match.time = "25:00-26:00"',
        'x.toml:13: route[0].match.time: has times that are none: "25:00-26:00"; they go from "00:00" to "24:00"',
    ),
    (ROUTE + "match.time = []", "x.toml:13: route[0].match.time: must not be an empty list"),
    (
        ROUTE + 'match = { "RequestAttributesSequence.AccesionNumber" = "1" }',
        'x.toml:13: route[0].match."RequestAttributesSequence.AccesionNumber": '
        'unknown attribute, did you mean "AccessionNumber"?',
    ),
    (
        ROUTE + 'match.RequestAttributesSequence.AccesionNumber = "1"',
        "x.toml:13: route[0].match.RequestAttributesSequence.AccesionNumber: "
        'unknown attribute, did you mean "AccessionNumber"?',
    ),
    (
        ROUTE + 'match.Modality.PatientID = "1"',
        "x.toml:13: route[0].match.Modality.PatientID: PatientID cannot be inside of Modality, which is no sequence",
    ),
    (
        ROUTE + 'match.RequestAttributesSequence = "A1"',
        "x.toml:13: route[0].match.RequestAttributesSequence: RequestAttributesSequence is a sequence: "
        'only "present", "absent", "*" and "" can be asked of it',
    ),
    (ROUTE + "match.Modality = {}", "x.toml:13: route[0].match.Modality: must not be an empty table"),
    (
        ROUTE + 'match = { "(0010,xx10,ACME)" = "1" }',
        'x.toml:13: route[0].match."(0010,xx10,ACME)": (0010,xx10,ACME) is no private attribute: '
        "its group must be odd, its creator not empty",
    ),
    (ROUTE + "match = { Modality = [] }", "x.toml:13: route[0].match.Modality: must not be an empty list"),
    (
        ROUTE + 'match = { PixelData = "*" }',
        "x.toml:13: route[0].match.PixelData: PixelData stands behind the header: routes cannot ask for it",
    ),
    (
        ROUTE + 'match = { "(0002,0010)" = "*" }',
        'x.toml:13: route[0].match."(0002,0010)": (0002,0010) is not part of an image\'s data set',
    ),
    (
        ROUTE + 'match.StudyDate = ["2024..", "2024..2023"]',
        'x.toml:13: route[0].match.StudyDate[1]: is a range that ends before it begins: "2024..2023"',
    ),
    (
        ROUTE + 'match.StudyDate = "01.02.2024"',
        'x.toml:13: route[0].match.StudyDate: must be a date such as "20240131" or "2024-01-31", '
        'or a range such as "20240101..", not "01.02.2024"',
    ),
    (
        ROUTE + 'match.SeriesNumber = "1..x"',
        'x.toml:13: route[0].match.SeriesNumber: must be a range of numbers, such as "1..5", not "1..x"',
    ),
    (
        ROUTE + 'match.SeriesNumber = "one"',
        'x.toml:13: route[0].match.SeriesNumber: must be a number, a range such as "1..5", or text with "*", not "one"',
    ),
    (
        ROUTE + 'match.PatientAge = "45"',
        'x.toml:13: route[0].match.PatientAge: must be an age such as "045Y" or "006M", '
        'or a range such as "018Y..", not "45"',
    ),
    (
        ROUTE + 'match.SOPClassUID = "CTImageStorag"',
        'x.toml:13: route[0].match.SOPClassUID: "CTImageStorag" is neither a UID nor a UID\'s keyword, '
        'did you mean "CTImageStorage"?',
    ),
    (
        ROUTE + 'match.peer = "10.0.0.300"',
        'x.toml:13: route[0].match.peer: must be an address or a network such as 10.1.0.0/16, not "10.0.0.300"',
    ),
    (
        ROUTE + 'match.listener = "OTHER"',
        "x.toml:13: route[0].match.listener: no such listener; there is ASYNCROUTE@0.0.0.0:11112",
    ),
    (
        ROUTE + 'match.calling_aet = "CT_SCANNER_NUMBER_1"',
        "x.toml:13: route[0].match.calling_aet: can never match: an AE title has at most 16 characters, "
        '"CT_SCANNER_NUMBER_1" has 19',
    ),
    (ROUTE + "match.PatientID = 1.10", "x.toml:13: route[0].match.PatientID: must be text in quotes, not 1.1"),
]

NOT_YET = [
    ("[http.x]", "x.toml:10: http: not available yet"),
    *(
        (
            f"{DICOM.replace('dicom', kind)}",
            f'x.toml:12: destination[1].kind: "{kind}" is not available yet; "dicom" or "folder" work today',
        )
        for kind in ("stow", "s3", "sftp")
    ),
    (
        f"{FOLDER}layout = '{{calling_aet}}/x'",
        "x.toml:14: destination[1].layout: {calling_aet} is not available yet; only attributes work today",
    ),
]

SYNTAX = [
    ("[node\n", "x.toml:1:6: not valid TOML: expected ']' at the end of a table declaration"),
    ("port 1\n", "x.toml:1:6: not valid TOML: expected '=' after a key in a key/value pair"),
    (
        "a = 1\nb = yes\n",
        "x.toml:2:5: not valid TOML: invalid value (text must be in quotes, true and false in small letters)",
    ),
    ("a = 1\na = 2\n", "x.toml:2:6: not valid TOML: cannot overwrite a value"),
    (
        'a = "x\nb = 1\n',
        "x.toml:1:7: not valid TOML: illegal character '\\n' (a quote or bracket is not closed)",
    ),
    ("a = [1,\n2", "x.toml:2:2: not valid TOML: unclosed array"),
    (
        'a = "C:\\dicom"',
        "x.toml:1:10: not valid TOML: unescaped '\\' in a string (write paths with / or in single quotes)",
    ),
    ("a = " + "[" * 5000, "x.toml: not valid TOML: brackets are nested too deeply"),
]


def messages(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, "x.toml")
    return str(caught.value)


@pytest.mark.parametrize(("snippet", "expected"), WRONG)
def test_a_mistake_is_told_with_file_line_and_key(snippet: str, expected: str) -> None:
    assert messages(BASE + snippet) == expected


@pytest.mark.parametrize(("snippet", "expected"), NOT_YET)
def test_what_is_not_built_yet_is_refused(snippet: str, expected: str) -> None:
    assert messages(BASE + snippet) == expected


@pytest.mark.parametrize(("text", "expected"), SYNTAX)
def test_a_syntax_error_has_line_and_column(text: str, expected: str) -> None:
    assert messages(text) == expected


def test_the_base_of_the_table_is_right() -> None:
    for snippet in ("", LISTENER, DICOM, FOLDER, ROUTE):
        assert loads(BASE + snippet).destinations[0].name == "pacs"


def test_an_empty_file_lacks_both_ends() -> None:
    assert messages("") == (
        "x.toml:1: listener: at least one [[listener]] is needed\n"
        "x.toml:1: destination: at least one [[destination]] is needed"
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
[[route]]
name = "r"
to = ["pacs", "nowhere", "broken"]
match = { Modality = "CT", Modalities = "CT", listener = "NOT CHECKED WHILE A LISTENER IS WRONG" }

[[destination]]
name = "pacs"
kind = "folder"
path = "x"

[[destination]]
name = "broken"
kind = "dicom"
max_associations = 0

[[listener]]
port = -1
"""
    assert messages(text).splitlines() == [
        'x.toml:3: route[0].to[1]: no destination is called "nowhere"; there is "pacs", "broken"',
        'x.toml:4: route[0].match.Modalities: unknown attribute, did you mean "Modality"?',
        "x.toml:11: destination[1].host: is missing",
        "x.toml:11: destination[1].port: is missing",
        "x.toml:11: destination[1].ae_title: is missing",
        "x.toml:14: destination[1].max_associations: must be 1..1000, not 0",
        "x.toml:17: listener[0].port: must be 0..65535, not -1",
    ]


def test_a_message_stays_in_one_short_line_whatever_the_file_says() -> None:
    long = "x" * 100_000
    text = BASE + f'[node]\nname = "a\\nb\\u0085\\u001b{long}"\n"k\\n{long}" = 1\nmemory = {"9" * 4000}\n'
    for problem in messages(text).split("\n"):
        assert len(problem) < 400
        assert problem.isprintable()
    assert len(messages(text).split("\n")) == 3
