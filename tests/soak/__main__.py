"""`python -m tests.soak --minutes 15`: all kinds of clients on the same timers, on a system of their own.

Fails when a client had to reconnect, when one threw an update away or could not read it, or when not every screen ends on
what is stored. Needs a JDK, Maven and Chromium.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import pytest

from tests.android import example
from tests.page.chromium import chromium
from tests.soak.trial import trial
from tests.system.cluster import Cluster


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--families", type=int, default=2)
    given = parser.parse_args()
    try:
        example.build()
        with tempfile.TemporaryDirectory() as directory:
            async with chromium() as browser:
                cluster = Cluster(Path(directory), {"BUBBLE_STORE": "sqlite"})
                await cluster.start()
                try:
                    report = await trial(
                        cluster, Path(directory), given.minutes * 60, given.families, okhttp=True, browser=browser
                    )
                finally:
                    await cluster.stop()
    except pytest.skip.Exception as missing:
        print(missing, file=sys.stderr)
        return 2
    return 0 if report.is_well else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
