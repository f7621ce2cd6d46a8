"""Names of deliveries."""

from zlib import crc32


def event_id(timer_id: str, *versions: int) -> str:
    """A short name for what a timer's state or audience was at these versions; the same whoever makes it.

    Clients send it back in their acks, so it must fit where their own message ids do, whatever the timer is called.
    """
    return ".".join([*(f"{version:x}" for version in versions), f"{crc32(timer_id.encode()):08x}"])


def made_at_us(name: str) -> int:
    """When the newest of a name's versions was made, in microseconds since 1970 (versions are moments, see the protos);
    0 when it is no such name.
    """
    parts = name.split(".", 3)
    try:
        if len(parts) == 2:
            return int(parts[0], 16)
        return max(int(parts[0], 16), int(parts[1], 16)) if len(parts) == 3 else 0
    except ValueError:
        return 0
