"""`runtime/lifecycle.py`: background work."""

import asyncio

import pytest

from runtime.lifecycle import background, forever
from tests.unit import virtual_time


async def test_background_work_runs_beside_the_body_and_ends_with_it() -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(work()):
        await begun.wait()
        assert not ended.is_set()
    assert ended.is_set()


async def test_a_process_that_has_lost_a_part_of_itself_ends() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError("a part of it")

    with pytest.raises(ExceptionGroup) as failure:
        async with background(work()):
            await asyncio.Event().wait()
    assert failure.group_contains(LookupError, match="a part of it")


def test_upkeep_goes_on_after_a_failure() -> None:
    steps: list[float] = []

    async def step() -> None:
        steps.append(virtual_time.now())
        if len(steps) % 2:
            raise OSError("the database is away")

    async def main() -> None:
        async with background(forever(10.0, step)):
            await asyncio.sleep(35)

    virtual_time.run(main())
    assert steps == [0.0, 10.0, 20.0, 30.0]
