"""`timer_service/recent.py`: the timers that were saved last."""

from timer_service.domain import Timer
from timer_service.recent import Recent


def timer(timer_id: str, version: int = 1) -> Timer:
    return Timer(timer_id=timer_id, owner="alice", version=version)


def test_what_was_saved_last_is_found() -> None:
    recent = Recent()
    recent.saved(timer("tea"))
    recent.saved(timer("tea", 2))
    assert recent.find(["tea", "eggs"]) == {"tea": timer("tea", 2)}


def test_what_is_out_of_date_is_forgotten() -> None:
    recent = Recent()
    recent.saved(timer("tea"))
    recent.forget("tea")
    recent.forget("eggs")
    assert recent.find(["tea"]) == {}


def test_the_least_recently_saved_makes_room() -> None:
    recent = Recent(2)
    for name in ("tea", "eggs", "tea", "rice"):
        recent.saved(timer(name))
    assert recent.find(["tea", "eggs", "rice"]).keys() == {"tea", "rice"}
    assert len(recent) == 2
