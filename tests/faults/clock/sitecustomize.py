"""Imported by Python itself at the start of a process that has this folder in its PYTHONPATH: sets its wall clock wrong.

`BUBBLE_TEST_CLOCK_AHEAD` is in seconds. What asks C for the date (`datetime.now`, so the log's timestamps and the
check of tokens) keeps the true time; everything that decides about timers, versions and leases asks `time`.
"""

import os
import time

_ahead = float(os.environ.get("BUBBLE_TEST_CLOCK_AHEAD", "0"))
_time, _time_ns = time.time, time.time_ns

time.time = lambda: _time() + _ahead
time.time_ns = lambda: _time_ns() + int(_ahead * 1_000_000_000)
