"""Groups in the configuration: what they mean for routes, and how mistakes are told."""

from __future__ import annotations

import pytest

from asyncroute.config import DicomDestination, compile_routes, loads
from asyncroute.config.titles import titles_of
from asyncroute.core.errors import ConfigError
from asyncroute.core.model import Source
from tests.unit.parts import delivery

DESTINATION = '[[destination]]\nname = "{0}"\nkind = "dicom"\nhost = "h"\nport = 104\nae_title = "{0}"\n'  # 6 lines
BASE = "[[listener]]\nport = 11112\n" + DESTINATION.format("a") + DESTINATION.format("b")  # lines 1 to 14
GROUP = '[[group]]\nname = "g"\n'  # lines 15 and 16
SOURCE = Source("CT", "ASYNCROUTE", "ASYNCROUTE@0.0.0.0:11112", "127.0.0.1")

WRONG = [
    (
        'mode = "fail-over"\nmembers = ["a"]',
        '17: group[0].mode: must be "failover", "balance" or "all", not "fail-over"',
    ),
    ('members = ["a"]', "15: group[0].mode: is missing"),
    ('mode = "failover"', "15: group[0].members: is missing"),
    ('mode = "failover"\nmembers = []', "18: group[0].members: must name at least one destination"),
    ('mode = "failover"\nmembers = "a"', '18: group[0].members: must be a list in brackets: ["a"]'),
    (
        'mode = "failover"\nmembers = ["a", "c"]',
        '18: group[0].members[1]: no destination is called "c"; there is "a", "b"',
    ),
    ('mode = "all"\nmembers = ["a", "b", "a"]', '18: group[0].members[2]: "a" is a member already'),
    ('mode = "all"\nmembers = ["a", "g"]', '18: group[0].members[1]: "g" is a group: members must be destinations'),
    (
        'mode = "balance"\nmembers = ["a", "b"]\nweights = [1]',
        "19: group[0].weights: must have one number for each of the 2 members, not 1",
    ),
    ('mode = "balance"\nmembers = ["a"]\nweights = [0]', "19: group[0].weights[0]: must be 1..1000, not 0"),
    ('mode = "failover"\nmembers = ["a"]\nweights = [1]', '19: group[0].weights: is for mode "balance" only'),
    (
        'mode = "all"\nmembers = ["a"]\nkeep = "1m"',
        '19: group[0].keep: is for modes "failover" and "balance" only: '
        "here nothing moves from one member to another",
    ),
    ('mode = "failover"\nmembers = ["a"]\nkeep = "2d"', '19: group[0].keep: must be "1d" or less, not "2d"'),
    (
        'mode = "failover"\nmembers = ["a"]\nkeep = "never"',
        '19: group[0].keep: cannot be "never": nothing else would end the wait',
    ),
    (
        'mode = "failover"\nmembers = ["a"]\nmember = "b"',
        '19: group[0].member: unknown key "member", did you mean "members"?',
    ),
    (
        'mode = "failover"\nmembers = ["a"]\n[[group]]\nname = "a"\nmode = "all"\nmembers = ["b"]',
        '20: group[1].name: "a" is already the name of a destination',
    ),
    (
        'mode = "failover"\nmembers = ["a"]\n[[group]]\nname = "g"\nmode = "all"\nmembers = ["b"]',
        '20: group[1].name: "g" is already the name of group[0]',
    ),
    (
        'mode = "failover"\nmembers = ["a"]\n[[route]]\nname = "r"\nto = ["gg"]',
        '21: route[0].to[0]: no destination or group is called "gg"; there is "a", "b", "g"',
    ),
]  # fmt: skip


@pytest.mark.parametrize(("snippet", "expected"), WRONG)
def test_a_mistake_is_told_with_file_line_and_key(snippet: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(BASE + GROUP + snippet, "x.toml")
    assert str(caught.value) == f"x.toml:{expected}"


def test_a_group_is_one_table_of_several() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(BASE + '[group]\nname = "g"', "x.toml")
    assert str(caught.value) == "x.toml:15: group: must be written [[group]], with double brackets"


def test_routes_name_groups() -> None:
    groups = (
        '[[group]]\nname = "all"\nmode = "all"\nmembers = ["b", "a"]\n'
        '[[group]]\nname = "one"\nmode = "failover"\nmembers = ["a", "b"]\n'
        '[[route]]\nname = "r"\nto = ["one", "all", "a"]\ncalling_ae_title = "R"\n'
    )
    config = loads(BASE + groups)
    assert [hit.destination for hit in compile_routes(config).decide(SOURCE, {})] == ["one", "b", "a"]
    assert config.reached(config.routes[0]) == ("a", "b")
    peers = [d for d in config.destinations if isinstance(d, DicomDestination)]
    assert [titles_of(config, peer).title(delivery(1, route="r")) for peer in peers] == ["R", "R"]


def test_what_is_left_out() -> None:
    config = loads(BASE + GROUP + 'mode = "balance"\nmembers = ["a", "b"]')
    one = config.groups[0].one_of
    assert one is not None
    assert (one.weights, one.keep) == ((1, 1), 600.0)
