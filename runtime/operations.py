"""Recognising a command that comes a second time: what a document remembers of those that changed it.

A command is repeated by a client whose answer was lost, by a channel, or by a process that was stopped with the command in
its hands and goes on much later. So the memory is fair: every writer (a device of a user) keeps its own last commands, and a
busy neighbour does not push them out.
"""

from collections import Counter
from zlib import crc32

import msgspec

MOST_OF_A_WRITER = 16
"""Commands of one writer that one document remembers. A client repeats what was unanswered at a reconnect, which is rarely
more than a few for one timer; the rest covers what it went on to do while an old copy was still under way."""

MOST = 64
"""Commands that one document remembers in all: some 5 KB. Beyond it the busiest writer loses its oldest."""


MAX_ID = 64
"""Characters of a command's name."""


class Operation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A command that was applied. `writer` is a short name of who sent it; 0: not known."""

    operation_id: str
    version: int
    base_version: int
    writer: int = 0


Operations = tuple[Operation, ...]


def writer(user_id: str, device_id: str) -> int:
    """A short name of a device. Two that share it share their memory, which is a little less of it and no harm."""
    return crc32(f"{user_id}\n{device_id}".encode())


def find(operations: Operations, operation_id: str) -> Operation | None:
    """The command of this id, if it is remembered. An empty id is never found."""
    if operation_id:
        for operation in operations:
            if operation.operation_id == operation_id:
                return operation
    return None


def remember(operations: Operations, operation: Operation) -> Operations:
    """The memory with one more command, oldest first, within its bounds."""
    if len(operations) < MOST_OF_A_WRITER:
        return (*operations, operation)
    writers = [each.writer for each in operations]
    if writers.count(operation.writer) >= MOST_OF_A_WRITER:
        crowded = operation.writer
    elif len(operations) >= MOST:
        ((crowded, _),) = Counter((*writers, operation.writer)).most_common(1)
    else:
        return (*operations, operation)
    oldest = writers.index(crowded)
    return (*operations[:oldest], *operations[oldest + 1 :], operation)
