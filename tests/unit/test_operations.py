"""`runtime/operations.py`: whose commands a document remembers."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.operations import MOST, MOST_OF_A_WRITER, Operation, Operations, find, remember, writer


def _memory(writers: list[int]) -> Operations:
    memory: Operations = ()
    for number, each in enumerate(writers):
        memory = remember(memory, Operation(f"op-{number}", number + 1, number, each))
    return memory


def test_a_command_is_found_by_its_id_and_nothing_by_an_empty_one() -> None:
    memory = _memory([1, 2, 1])
    assert find(memory, "op-1") == Operation("op-1", 2, 1, 2)
    assert find(memory, "op-9") is None
    assert find((*memory, Operation("", 9, 8)), "") is None


def test_the_last_commands_of_one_writer_are_remembered_and_no_more() -> None:
    memory = _memory([7] * (MOST_OF_A_WRITER + 3))
    assert [each.operation_id for each in memory] == [f"op-{number}" for number in range(3, MOST_OF_A_WRITER + 3)]


def test_a_busy_neighbour_does_not_push_out_somebody_elses_command() -> None:
    memory = _memory([1] + [2] * 1_000)
    assert find(memory, "op-0") is not None


def test_when_it_is_full_the_busiest_writer_loses_its_oldest() -> None:
    writers = [number % 4 for number in range(MOST)] + [99]
    memory = _memory(writers)
    assert len(memory) == MOST
    assert find(memory, f"op-{MOST}") is not None
    assert find(memory, "op-0") is None


@given(st.lists(st.integers(0, 20), max_size=300))
def test_it_stays_within_its_bounds_and_is_fair(writers: list[int]) -> None:
    memory = _memory(writers)
    assert len(memory) <= MOST
    if writers:
        assert memory[-1].operation_id == f"op-{len(writers) - 1}"
    versions = [each.version for each in memory]
    assert versions == sorted(versions)
    counts = {each: sum(operation.writer == each for operation in memory) for each in set(writers)}
    for each, count in counts.items():
        assert count <= MOST_OF_A_WRITER
        # Whoever remembers less than it sent is not behind somebody who is remembered much longer.
        if count < min(writers.count(each), MOST_OF_A_WRITER):
            assert count >= max(counts.values()) - 1 or count >= MOST // len(counts) - 1


def test_devices_are_told_apart_by_user_and_name() -> None:
    assert len({writer("ann", "phone"), writer("ann", "tablet"), writer("ben", "phone"), writer("an", "nphone")}) == 4
