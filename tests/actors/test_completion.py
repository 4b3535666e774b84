"""What is completed out of order counts in order."""

from hypothesis import given, strategies as st

from actorstream import Message
from actorstream.actors.completion import CompletionWindow
from actorstream.actors.progress import Progress


def at(offset: int) -> Message:
    message = Message()
    message.offset = offset
    return message


def window_of(*offsets: int) -> tuple[CompletionWindow, Progress]:
    progress = Progress(0)
    window = CompletionWindow(progress)
    for offset in offsets:
        window.begin(at(offset))
    return window, progress


def test_nothing_counts_while_the_first_is_not_completed() -> None:
    window, progress = window_of(3, 4, 5)
    assert window.complete(5) == 0
    assert window.complete(4) == 0
    assert progress.completed is None
    assert [message.offset for message in window.unfinished()] == [3, 4, 5]


def test_the_first_takes_those_behind_it_with_it() -> None:
    window, progress = window_of(3, 4, 5, 9)
    window.complete(5)
    window.complete(4)
    assert window.complete(3) == 3
    assert progress.completed == 5
    assert [message.offset for message in window.unfinished()] == [9]
    assert len(window) == 1


def test_offsets_that_were_never_handed_out_are_no_hole() -> None:
    window, progress = window_of(10, 20)
    window.complete(10)
    assert progress.completed == 10
    window.complete(20)
    assert progress.completed == 20
    window.begin(at(35))
    window.complete(35)
    assert progress.completed == 35


def test_what_was_dropped_behind_the_last_one_is_completed_with_it_and_not_before() -> None:
    window, progress = window_of(3, 4)
    progress.position = 100
    window.complete(4)
    assert progress.completed is None
    window.complete(3)
    assert progress.completed == 99


def test_an_empty_window_moves_nothing() -> None:
    window, progress = window_of()
    assert (len(window), window.unfinished(), progress.completed) == (0, [], None)


@given(st.data())
def test_completed_is_always_the_last_before_the_first_that_is_not(data: st.DataObject) -> None:
    """Against the rule itself, over any order of beginnings and completions."""
    offsets = sorted(data.draw(st.sets(st.integers(0, 200), min_size=1, max_size=30)))
    window, progress = window_of()
    begun: list[int] = []
    completed: set[int] = set()
    left = 0
    while len(completed) < len(offsets):
        open_ones = [offset for offset in begun if offset not in completed]
        if len(begun) < len(offsets) and (not open_ones or data.draw(st.booleans())):
            begun.append(offsets[len(begun)])
            window.begin(at(begun[-1]))
        else:
            offset = data.draw(st.sampled_from(open_ones))
            completed.add(offset)
            left += window.complete(offset)
        until = next((offset for offset in begun if offset not in completed), 1_000)
        wanted = [offset for offset in begun if offset < until]
        assert progress.completed == (wanted[-1] if wanted else None)
        assert [message.offset for message in window.unfinished()] == begun[len(wanted) :]
        assert left == len(wanted)
        assert window._completed == {offset for offset in completed if offset > until}, "and nothing is kept for ever"
