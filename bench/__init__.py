"""Load for a running system, and what came of it."""
