"""What waits to be written: its order, and what is left out where there is no room."""

from logging import DEBUG, ERROR, INFO, WARNING

from autorelease.backlog import Backlog, lines_beyond

ORDERED = [b"a\n", b"b\n", b"c\n"]


def taken(backlog: Backlog) -> list[bytes]:
    """All that waits, in the order in which it is taken."""
    return [data for _ in range(len(backlog)) for data, _ in backlog.take(1)]


def test_levels_do_not_change_the_order() -> None:
    backlog = Backlog()
    for data, level in zip(ORDERED, (INFO, ERROR, DEBUG), strict=True):
        backlog.put(data, level, 1)
    assert (taken(backlog), backlog.lost) == (ORDERED, 0)


def test_where_there_is_no_room_errors_stay_and_the_least_goes_first() -> None:
    backlog = Backlog(most_bytes=8)
    for data, level in ((b"1d", DEBUG), (b"2i", INFO), (b"3w", WARNING), (b"4i", INFO)):
        backlog.put(data, level, 1)
    backlog.put(b"5e", ERROR, 1)
    assert backlog.lost == 1
    backlog.put(b"6e", ERROR, 1)
    assert taken(backlog) == [b"2i", b"3w", b"5e", b"6e"]


def test_among_equals_what_came_first_stays() -> None:
    backlog = Backlog(most_bytes=4)
    for data in (b"1e", b"2e", b"3e"):
        backlog.put(data, ERROR, 1)
    assert (taken(backlog), backlog.lost) == ([b"1e", b"2e"], 1)


def test_a_line_that_is_longer_than_all_there_is_waits_alone() -> None:
    backlog = Backlog(most_bytes=4)
    backlog.put(b"longer", INFO, 1)
    backlog.put(b"x", INFO, 1)
    assert (taken(backlog), backlog.lost) == ([b"longer"], 1)


def test_a_whole_group_is_taken_at_once_as_far_as_it_may() -> None:
    backlog = Backlog()
    for data in (b"12", b"34", b"56", b"789"):
        backlog.put(data, INFO, 1)
    assert backlog.lines() == 4
    assert [data for data, _ in backlog.take(5)] == [b"12", b"34"]
    assert [data for data, _ in backlog.take(1)] == [b"56"]
    assert (backlog.lines(), len(backlog)) == (1, 1)


def test_a_line_of_which_a_part_was_written_is_not_written() -> None:
    chunks = [(b"one\n", 1), (b"two\nthree\n", 2), (b"four\n", 1)]
    assert [lines_beyond(chunks, written) for written in (0, 3, 4, 13, 14, 19)] == [4, 4, 3, 3, 1, 0]
