"""Links to join a timer."""

import pytest

from cli.access import Access
from cli.errors import ExitCode, Problem
from cli.links import invitation_of, link_of

INVITATION = "eyJh-_9.eyJ0.c2ln"
HERE = Access("https://timers.example", "a token", "", "this test")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://timers.example", "https://example.org/bubble"])
def test_a_link_that_was_made_is_read_again(url: str) -> None:
    access = HERE._replace(url=url)
    assert invitation_of(link_of(access, INVITATION), access) == INVITATION


@pytest.mark.parametrize(
    "link",
    [
        f"https://timers.example/#join={INVITATION}",
        f"  https://TIMERS.example:443/page#join={INVITATION}\n",
        f"wss://timers.example/#join={INVITATION}",
        f"#join={INVITATION}",
        INVITATION,
    ],
)
def test_it_may_be_written_in_other_ways_and_an_invitation_come_alone(link: str) -> None:
    assert invitation_of(link, HERE) == INVITATION


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "http://timers.example/",  # in the clear
        "https://timers.example:8443/",
        "https://timers.example.evil.example/",
        "https://timers.example@evil.example/",
        "ftp://timers.example/",
        "timers.example/",  # which would mean http
        f"https://evil.example/#join={INVITATION}",
        "nonsense",
    ],
)
def test_a_link_of_another_place_is_refused(place: str) -> None:
    with pytest.raises(Problem, match="The link is one of") as problem:
        invitation_of(f"{place}#join={INVITATION}", HERE)
    assert problem.value.code == ExitCode.USAGE


@pytest.mark.parametrize(
    "link",
    ["", "tea", "https://timers.example/", "https://timers.example/#join=", "#join=a.b", "a.b.c.d", "ä.b.c", "a.b.c?x"],
)
def test_what_has_no_invitation_is_no_link(link: str) -> None:
    with pytest.raises(Problem, match="no link to join a timer") as problem:
        invitation_of(link, HERE)
    assert problem.value.code == ExitCode.USAGE
