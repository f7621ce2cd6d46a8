"""`runtime/pulse.py`: a process notices that it was stopped."""

import asyncio
import time

from runtime.pulse import LONGEST_STOP, READING, Pulse


def test_who_beats_has_skipped_nothing_and_who_does_not_has() -> None:
    heart = Pulse()
    now = time.monotonic()
    assert not heart.skipped(now)
    assert not heart.skipped(now + LONGEST_STOP - 0.1)
    assert heart.skipped(now + LONGEST_STOP + 0.1)


async def test_after_a_stop_old_requests_are_still_expected_for_a_moment() -> None:
    now = [0.0]
    heart = Pulse(lambda: now[0])
    beating = asyncio.create_task(heart.run())
    await asyncio.sleep(0)
    now[0] = LONGEST_STOP + 1
    assert heart.skipped(now[0]), "of the first turn, requests come before the heart beats again"
    while not heart._reading_until:
        await asyncio.sleep(0.01)
    assert heart.skipped(now[0] + READING - 0.01)
    assert not heart.skipped(now[0] + READING + 0.01)
    beating.cancel()
