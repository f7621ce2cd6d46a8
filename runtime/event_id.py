"""Names of deliveries."""

from zlib import crc32


def event_id(timer_id: str, *versions: int) -> str:
    """A short name for what a timer's state or audience was at these versions; the same whoever makes it.

    Clients send it back in their acks, so it must fit where their own message ids do, whatever the timer is called.
    """
    return ".".join([*(f"{version:x}" for version in versions), f"{crc32(timer_id.encode()):08x}"])
