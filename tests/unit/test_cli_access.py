"""Where the system is and who we are: flags before environment before file."""

from pathlib import Path

import pytest

from cli import access
from cli.access import DEFAULT_URL, Access
from cli.errors import ExitCode, Problem


def find(
    home: Path,
    *,
    url: str | None = None,
    token: str | None = None,
    user: str | None = None,
    file: str | None = None,
    **environ: str,
) -> Access:
    if file is not None:
        path = home / "bubble" / "config.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(file)
    return access.find(url=url, token=token, user=user, environ={"XDG_CONFIG_HOME": str(home), **environ})


def test_with_nothing_set_it_is_the_development_system_here_under_the_log_in_name(tmp_path: Path) -> None:
    found = find(tmp_path)
    assert found.url == DEFAULT_URL
    assert found.token is None
    assert found.user


def test_flags_count_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = 'url = "http://file"\ntoken = "file"\n'
    assert find(tmp_path, file=file)[:2] == ("http://file", "file")
    environment = {"BUBBLE_URL": "http://environment", "BUBBLE_TOKEN": "environment"}
    assert find(tmp_path, **environment)[:2] == ("http://environment", "environment")
    assert find(tmp_path, url="http://flag", token="flag", **environment)[:2] == ("http://flag", "flag")
    assert find(tmp_path, url="http://flag", BUBBLE_TOKEN="environment")[:2] == ("http://flag", "environment")


def test_a_user_who_is_named_nearer_wins_over_a_token_farther_away(tmp_path: Path) -> None:
    assert find(tmp_path, user="bob", BUBBLE_TOKEN="alices")[1:3] == (None, "bob")
    assert find(tmp_path, file='token = "alices"', BUBBLE_USER="bob")[1:3] == (None, "bob")
    assert find(tmp_path, BUBBLE_USER="bob", BUBBLE_TOKEN="alices")[1:3] == ("alices", "")


def test_it_can_tell_where_a_token_came_from(tmp_path: Path) -> None:
    assert "BUBBLE_TOKEN" in find(tmp_path, BUBBLE_TOKEN="x").source
    assert "config.toml" in find(tmp_path, file='token = "x"').source


@pytest.mark.parametrize(
    ("given", "base", "socket"),
    [
        ("http://host:8080", "http://host:8080", "ws://host:8080/ws"),
        ("https://host/", "https://host", "wss://host/ws"),
        ("wss://host/ws", "https://host", "wss://host/ws"),
        ("host:8080", "http://host:8080", "ws://host:8080/ws"),
        ("https://host/timers/", "https://host/timers", "wss://host/timers/ws"),
        ("http://[::1]:8080", "http://[::1]:8080", "ws://[::1]:8080/ws"),
    ],
)
def test_an_address_may_be_written_in_many_ways(tmp_path: Path, given: str, base: str, socket: str) -> None:
    found = find(tmp_path, url=given)
    assert (found.url, found.socket_url) == (base, socket)


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:port", "://"])
def test_what_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Problem, match="no address") as caught:
        find(tmp_path, url=url)
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize("file", ["url = ", "tokn = 'x'", "url = 5", "\xff"])
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, file: str) -> None:
    with pytest.raises(Problem, match=r"config\.toml"):
        find(tmp_path, file=file)


def test_two_identities_at_once_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="which one"):
        find(tmp_path, token="x", user="bob")


def test_an_impossible_user_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="control"):
        find(tmp_path, user="bo\nb")


def test_without_xdg_the_file_is_under_the_home_directory() -> None:
    assert access.config_path({"HOME": "/home/alice"}) == Path("/home/alice/.config/bubble/config.toml")
    assert access.config_path({"HOME": "/home/alice", "XDG_CONFIG_HOME": "relative"}).parts[2] == "alice"
