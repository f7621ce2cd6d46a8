"""REST beside the socket: docs/rest.md."""
