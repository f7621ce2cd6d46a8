"""`runtime/grpc_client.py`: how addresses are written."""

import pytest

from runtime.grpc_client import split_address, target


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        ("127.0.0.1:50051", "dns:///127.0.0.1:50051"),
        ("timer:50051", "dns:///timer:50051"),
        (" timer:50051 ", "dns:///timer:50051"),
        ("[::1]:50051", "dns:///[::1]:50051"),
        ("10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("10.0.0.1:1, 10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
        ("[::1]:1,[::2]:2", "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_one_name_is_resolved_and_a_list_is_taken_as_it_is(addresses: str, name: str) -> None:
    assert target(addresses) == name


@pytest.mark.parametrize(
    "addresses",
    [
        "",
        "timer",
        ":50051",
        "timer:",
        "timer:x",
        "timer:0",
        "timer:65536",
        "timer:-1",
        "a:1,b:2",
        "10.0.0.1:1,[::1]:2",
        ",",
    ],
)
def test_anything_else_is_refused(addresses: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        target(addresses)


def test_an_address_has_two_parts() -> None:
    assert split_address("[fe80::1]:443") == ("fe80::1", 443)
    assert split_address("localhost:8080") == ("localhost", 8080)
