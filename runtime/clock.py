"""The clock of the machine, as the domain's rules take it: they get the time as an argument."""

import time


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000
