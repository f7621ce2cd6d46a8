"""What programs that measure have in common: a cheap client, and tokens for its people.

The client itself is the command line's (`cli/raw_socket.py`), which has a small load test of its own: what measures may
know the product, never the other way round.
"""

import argparse
import json
import time
import urllib.request
from urllib.parse import urlsplit

import jwt

from cli.raw_socket import RawSocket as Client

__all__ = ["Client", "add_token_arguments", "make_token", "text_field"]


def text_field(payload: bytes, name: bytes) -> bytes:
    """The first value of a text field in a JSON message of the system, which has no spaces. Raises ValueError."""
    start = payload.index(b'"' + name + b'":"') + len(name) + 4
    return payload[start : payload.index(b'"', start)]


def add_token_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the edge is, and how a program gets tokens for its people."""
    parser.add_argument("--url", default="ws://127.0.0.1:8080", help="the edge")
    parser.add_argument("--secret", default="", help="token secret; without it, development tokens are asked for")


def make_token(url: str, secret: str, user: str) -> str:
    """A token for a person: signed here, or asked for when there is no secret (development mode only)."""
    if secret:
        return jwt.encode({"sub": user, "exp": time.time() + 3_600}, secret, algorithm="HS256")
    request = urllib.request.Request(
        f"http://{urlsplit(url).netloc}/dev/token", data=json.dumps({"user": user}).encode(), method="POST"
    )
    with urllib.request.urlopen(request) as response:
        token: str = json.load(response)["token"]
        return token
