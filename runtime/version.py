"""Which version this is."""

VERSION = "0.1.0"
"""That of pyproject.toml (a test holds them together): in a container the project is not installed as a package."""
