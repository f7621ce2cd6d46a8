"""`sabotage.py` must still know the source that it breaks."""

import pytest

from tests.faults.sabotage import ROOT, SABOTAGES, Sabotage, edited


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=[each.mechanism for each in SABOTAGES])
def test_every_mechanism_is_where_it_is_broken_and_its_test_exists(sabotage: Sabotage) -> None:
    for edit in sabotage.edits:
        assert edited((ROOT / edit.path).read_text(), edit)
    path, _, name = sabotage.test.partition("::")
    assert name in (ROOT / path).read_text()
