"""One system in containers for all of these tests."""

from collections.abc import Iterator

import pytest

from tests.compose.stack import Stack, require_docker
from tests.system.cluster import SECRET


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system as one would run it for strangers: no development mode, the tokens' secret in a file."""
    require_docker()
    secret = tmp_path_factory.mktemp("secrets") / "jwt-secret"
    secret.write_text(SECRET)
    secret.chmod(0o444)  # read by another user, in the container
    running = Stack(BUBBLE_DEV="", BUBBLE_JWT_SECRET_FILE=str(secret), BUBBLE_MESSAGES_PER_SECOND="0")
    try:
        running.up()
        yield running
    finally:
        running.down()
    assert running.leftovers() == []


@pytest.fixture
def edge_port(stack: Stack) -> int:
    """Where clients connect: the proxy."""
    return stack.ports["BUBBLE_EDGE_PORT"]
