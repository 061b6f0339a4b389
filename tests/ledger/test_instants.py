"""Which instants are understood, and how one is written back."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from autorelease.ledger.instants import read_instant, written_like
from autorelease.ledger.values import Unreadable, Vocabulary
from autorelease.model import RawValue

BERLIN = ZoneInfo("Europe/Berlin")
EPOCH = Vocabulary()
MILLISECONDS = Vocabulary(timestamps="epoch_ms")
TEXT = Vocabulary(timestamps="iso8601")
LOCAL = Vocabulary(timestamps="iso8601", timezone=BERLIN)
NOON = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
NOON_EPOCH = 1_796_126_400
MICROSECOND = timedelta(microseconds=1)


def test_the_two_spellings_of_noon_agree() -> None:
    assert NOON.timestamp() == NOON_EPOCH


# --- the grammar of instants ------------------------------------------------------------------------------------------

ACCEPTED: dict[str, datetime] = {
    "2026-12-01T12:00:00Z": NOON,
    "2026-12-01 12:00:00Z": NOON,
    "2026-12-01T12:00Z": NOON,
    "2026-12-01 12:00:00 Z": NOON,
    "2026-12-01T13:00:00+01:00": NOON,
    "2026-12-01 13:00:00+01": NOON,
    "2026-12-01 13:00:00 +01": NOON,
    "2026-12-01T13:00+01": NOON,
    "2026-12-01T06:30:00-05:30": NOON,
    "2026-12-02T11:59:00+23:59": NOON,
    "2026-11-30T12:01:00-23:59": NOON,
    "2026-12-01T12:00:00+00:00": NOON,
    "2026-12-01T12:00:00-00:00": NOON,
    "2026-12-01T12:00:00.5Z": NOON + timedelta(milliseconds=500),
    "2026-12-01T12:00:00.123456Z": NOON + timedelta(microseconds=123_456),
    "2026-12-01T12:00:00.000000000Z": NOON,
    "2026-12-01T12:00:00.000000001Z": NOON + MICROSECOND,
    "2026-12-01T12:00:00.123456000Z": NOON + timedelta(microseconds=123_456),
    "2026-12-01T12:00:00.1234560001Z": NOON + timedelta(microseconds=123_457),
    "2026-12-01T11:59:59.9999990Z": NOON - MICROSECOND,
    "2026-12-01T11:59:59.9999991Z": NOON,
    "2026-11-30T23:59:59.99999999999999999999Z": NOON - timedelta(hours=12),
    "2028-02-29T00:00:00Z": datetime(2028, 2, 29, tzinfo=UTC),
    "2026-12-01t12:00:00z": NOON,
    "2026-12-01 12:00z": NOON,
    "2026-12-01T13:00:00+0100": NOON,
    "2026-12-01 06:30 -0530": NOON,
    "2026-12-01T12:00:00-0000": NOON,
    "2026-12-01 12:00:00 UTC": NOON,
    "2026-12-01 12:00:00UTC": NOON,
    "2026-12-01 12:00 utc": NOON,
    "2026-12-01 12:00:00 +0000 UTC": NOON,
    "2026-12-01 12:00:00.5 +0000 UTC": NOON + timedelta(milliseconds=500),
    "2026-12-01 12:00:00+00 UTC": NOON,
    "2026-12-01 12:00:00-00:00 Utc": NOON,
    "2026-12-01T12:00:00,5Z": NOON + timedelta(milliseconds=500),
    "2026-12-01 12:00:00,123456001 UTC": NOON + timedelta(microseconds=123_457),
    "2000-01-01T00:00:00Z": datetime(2000, 1, 1, tzinfo=UTC),
    "1999-12-31T23:00:00-01:00": datetime(2000, 1, 1, tzinfo=UTC),
    "2200-12-31T23:59:59.999999Z": datetime(2200, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
}


@pytest.mark.parametrize(("text", "instant"), ACCEPTED.items(), ids=ACCEPTED.keys())
def test_an_instant_that_is_understood(text: str, instant: datetime) -> None:
    assert read_instant(text, TEXT) == instant
    assert read_instant(text, LOCAL) == instant


REFUSED = [
    "",
    " ",
    "2026-12-01",
    "2026-12-01T12Z",
    "2026-12-01_12:00:00Z",
    "2026-12-01  12:00:00Z",
    " 2026-12-01T12:00:00Z",
    "2026-12-01T12:00:00Z ",
    "2026-12-01T12:00:00Z\n",
    "2026-12-01T12:00:00  Z",
    "2026-12-01T12:00:00.Z",
    "2026-12-01T12:00.5Z",
    "2026-12-01T12:00:00+1",
    "2026-12-01T12:00:00+01:00:00",
    "2026-12-01T12:00:00+24:00",
    "2026-12-01T12:00:00+01:60",
    "2026-12-01T12:00:00+99",
    "2026-12-01T12:00:00\u221201:00",
    "2026-12-01T12:00:00+02:00 UTC",
    "2026-12-01 12:00:00 +0200 UTC",
    "2026-12-01 12:00:00 -0001 UTC",
    "2026-12-01 13:00:00 +0100 CET",
    "2026-12-01 12:00:00 +0000 GMT",
    "2026-12-01 12:00:00 GMT",
    "2026-12-01 12:00:00 +0000  UTC",
    "2026-12-01 12:00:00 +0000UTC",
    "2026-12-01 12:00:00 +0000 Z",
    "2026-12-01 12:00:00Z UTC",
    "2026-12-01 12:00:00 UTC UTC",
    "2026-12-01 12:00:00 UTC+0000",
    "2026-12-01 12:00:00 +0000 UTC m=+0.000012345",
    "2026-12-01T12:00:00+010",
    "2026-12-01T12:00:00+01000",
    "2026-12-01T12:00:00+0160",
    "2026-12-01T12:00:00+2400",
    "2026-12-01T12:00:00.,5Z",
    "2026-12-01T12:00:00,Z",
    "2026-12-01T12:00,5Z",
    "2026-12-01T12:00:00 U\u0422C",
    "2026-12-01T12:00:00 Europe/Berlin",
    "2026-12-01T12:00:00[Europe/Berlin]",
    "20261201T120000Z",
    "2026-W49-2T12:00:00Z",
    "2026-335T12:00:00Z",
    "26-12-01T12:00:00Z",
    "+2026-12-01T12:00:00Z",
    "-2026-12-01T12:00:00Z",
    "2026-1-1T12:00:00Z",
    "2026-13-01T12:00:00Z",
    "2026-00-01T12:00:00Z",
    "2026-02-29T12:00:00Z",
    "2026-04-31T12:00:00Z",
    "2026-12-00T12:00:00Z",
    "2026-12-01T24:00:00Z",
    "2026-12-01T25:00:00Z",
    "2026-12-01T12:60:00Z",
    "2026-12-31T23:59:60Z",
    "0000-00-00 00:00:00Z",
    "1999-12-31T23:59:59.9999Z",
    "2201-01-01T00:00:00Z",
    "2200-12-31T23:59:59.9999991Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+05:00",
    "01.12.2026 12:00:00",
    "12/01/2026 12:00 PM",
    "1796126400",
    "now",
    "infinity",
    "\u0662\u0660\u0662\u0666-12-01T12:00:00Z",
    "2026-12-01T12:00:00Z\x00",
]


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
@pytest.mark.parametrize("words", [TEXT, LOCAL], ids=["no zone", "a zone"])
def test_what_is_no_certain_instant(text: str, words: Vocabulary) -> None:
    with pytest.raises(Unreadable):
        read_instant(text, words)


@pytest.mark.parametrize("value", [NOON_EPOCH, 1.5, b"2026-12-01T12:00:00Z", 0], ids=repr)
def test_where_text_is_expected_only_text_is_an_instant(value: RawValue) -> None:
    with pytest.raises(Unreadable, match="where iso8601 takes text"):
        read_instant(value, TEXT)


def test_a_text_without_an_offset_needs_a_time_zone() -> None:
    assert read_instant("2026-12-01 13:00:00", LOCAL) == NOON
    with pytest.raises(Unreadable, match=r"no offset and ledger\.timezone is not set"):
        read_instant("2026-12-01 13:00:00", TEXT)


NUMBERS: dict[str, tuple[RawValue, Vocabulary, datetime]] = {
    "seconds": (NOON_EPOCH, EPOCH, NOON),
    "seconds as a real": (float(NOON_EPOCH), EPOCH, NOON),
    "half a second": (NOON_EPOCH + 0.5, EPOCH, NOON + timedelta(milliseconds=500)),
    "a hair more than a second is rounded up": (
        NOON_EPOCH + 2.0**-22,
        EPOCH,
        NOON + MICROSECOND,
    ),
    "milliseconds": (NOON_EPOCH * 1000 + 1, MILLISECONDS, NOON + timedelta(milliseconds=1)),
    "part of a millisecond": (NOON_EPOCH * 1000 + 0.5, MILLISECONDS, NOON + timedelta(microseconds=500)),
    "a hair more than a millisecond": (NOON_EPOCH * 1000 + 2.0**-12, MILLISECONDS, NOON + MICROSECOND),
}


@pytest.mark.parametrize(("value", "words", "instant"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers(value: RawValue, words: Vocabulary, instant: datetime) -> None:
    assert read_instant(value, words) == instant


def test_milliseconds_are_not_seconds() -> None:
    with pytest.raises(Unreadable, match="1970"):
        read_instant(NOON_EPOCH, MILLISECONDS)


@given(st.floats(946_684_800, 7_289_654_399))
def test_a_real_is_never_read_as_an_earlier_instant(value: float) -> None:
    instant = read_instant(value, EPOCH)
    assert instant is not None
    microseconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND
    numerator, denominator = value.as_integer_ratio()
    assert (microseconds - 1) * denominator < numerator * 10**6 <= microseconds * denominator


@given(st.datetimes(datetime(2000, 1, 2), datetime(2200, 12, 30)), st.text("0123456789", min_size=1, max_size=12))  # noqa: DTZ001
def test_a_fraction_is_never_read_as_an_earlier_instant(moment: datetime, digits: str) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    instant = read_instant(f"{whole:%Y-%m-%dT%H:%M:%S}.{digits}Z", TEXT)
    assert instant is not None
    microseconds = (instant - whole) // MICROSECOND
    assert (microseconds - 1) * 10 ** len(digits) < int(digits) * 10**6 <= microseconds * 10 ** len(digits)


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_unreadable(text: str) -> None:
    for words in (TEXT, LOCAL):
        try:
            read_instant(text, words)
        except Unreadable as error:
            assert str(error)  # noqa: PT017 - both ends are right


# --- dates without a time ---------------------------------------------------------------------------------------------


def of_day(date: str, meaning: str, zone: str) -> str:
    """What a date means there."""
    words = Vocabulary(timestamps="iso8601", timezone=ZoneInfo(zone), dates=meaning)
    instant = read_instant(date, words)
    assert instant is not None
    return f"{instant:%Y-%m-%d %H:%M}"


DAYS = {
    "a day in winter": ("2026-12-01", "Europe/Berlin", "2026-11-30 23:00", "2026-12-01 23:00"),
    "a day in summer": ("2026-07-01", "Europe/Berlin", "2026-06-30 22:00", "2026-07-01 22:00"),
    "a day of 23 hours": ("2026-03-29", "Europe/Berlin", "2026-03-28 23:00", "2026-03-29 22:00"),
    "the last day of February": ("2028-02-29", "UTC", "2028-02-29 00:00", "2028-03-01 00:00"),
    "the last day of a year": ("2026-12-31", "America/New_York", "2026-12-31 05:00", "2027-01-01 05:00"),
    # The clocks of Brazil went from 00:00 to 01:00: the day began at one.
    "a midnight that never was": ("2018-11-04", "America/Sao_Paulo", "2018-11-04 03:00", "2018-11-05 02:00"),
    "the day before that": ("2018-11-03", "America/Sao_Paulo", "2018-11-03 03:00", "2018-11-04 03:00"),
    # Those of Cuba went from 01:00 back to 00:00.
    "a midnight that was twice": ("2015-11-01", "America/Havana", "2015-11-01 05:00", "2015-11-02 05:00"),
    "the day before that one": ("2015-10-31", "America/Havana", "2015-10-31 04:00", "2015-11-01 05:00"),
    # Samoa went over the date line, and had no 30th of December.
    "a day that never was": ("2011-12-30", "Pacific/Apia", "2011-12-30 10:00", "2011-12-30 10:00"),
}


@pytest.mark.parametrize(("date", "zone", "start", "end"), DAYS.values(), ids=DAYS.keys())
def test_where_a_day_begins_and_where_it_ends(date: str, zone: str, start: str, end: str) -> None:
    assert of_day(date, "start", zone) == start
    assert of_day(date, "end", zone) == end


@pytest.mark.parametrize(
    "date", ["2026-02-29", "2026-13-01", "9999-12-31", "0000-00-00", "2026-1-1", "20261201", "1999-12-29"]
)
def test_a_day_that_is_none(date: str) -> None:
    for meaning in ("end", "start"):
        with pytest.raises(Unreadable):
            of_day(date, meaning, "Europe/Berlin")


def test_a_date_says_nothing_where_nobody_says_what_it_means() -> None:
    with pytest.raises(Unreadable, match=r"no time and ledger\.dates is not set"):
        read_instant("2026-12-01", LOCAL)


def test_a_date_is_written_as_a_date_and_an_instant_as_an_instant() -> None:
    late = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    words = msgspec.structs.replace(LOCAL, dates="end")
    assert written_like("2025-05-31", late, words) == "2026-12-01"
    assert written_like("2025-05-31 00:00:00", late, words) == "2026-12-01 00:30:00"
    assert written_like("9999-12-31", late, LOCAL) == "2026-11-30 23:30:00Z"


# --- local times ------------------------------------------------------------------------------------------------------

CLOCKS = {
    "winter": ("2026-12-01 13:00:00", NOON),
    "summer": ("2026-07-01 14:00:00", datetime(2026, 7, 1, 12, 0, tzinfo=UTC)),
    "put back: the last instant that is read once": (
        "2026-10-25 01:59:59",
        datetime(2026, 10, 24, 23, 59, 59, tzinfo=UTC),
    ),
    "put back: read twice, the later holds": ("2026-10-25 02:00:00", datetime(2026, 10, 25, 1, 0, tzinfo=UTC)),
    "put back: read twice, half past": ("2026-10-25 02:30:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    "put back: read once again": ("2026-10-25 03:00:00", datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
    "put forward: the last instant before": ("2026-03-29 01:59:59", datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)),
    "put forward: skipped, the later holds": ("2026-03-29 02:30:00", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
    "put back: rounded up to the end of what is read once": (
        "2026-10-25 01:59:59.9999999",
        datetime(2026, 10, 25, 0, 0, tzinfo=UTC),
    ),
    "put forward: rounded up to the end of what is skipped": (
        "2026-03-29 02:59:59.9999999",
        datetime(2026, 3, 29, 2, 0, tzinfo=UTC),
    ),
    "put forward: the first instant after": ("2026-03-29 03:00:00", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
}


@pytest.mark.parametrize(("text", "instant"), CLOCKS.values(), ids=CLOCKS.keys())
def test_of_two_readings_of_a_local_time_the_later_holds(text: str, instant: datetime) -> None:
    assert read_instant(text, LOCAL) == instant


def test_an_offset_in_the_text_beats_the_time_zone() -> None:
    assert read_instant("2026-10-25 02:30:00+02:00", LOCAL) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Tehran"])


@given(st.datetimes(datetime(2000, 1, 2), datetime(2190, 1, 1)), zones)  # noqa: DTZ001
def test_no_reading_of_a_local_time_is_later_than_ours(moment: datetime, zone: str) -> None:
    place = ZoneInfo(zone)
    instant = read_instant(f"{moment:%Y-%m-%d %H:%M:%S.%f}", Vocabulary(timestamps="iso8601", timezone=place))
    readings = [moment.replace(tzinfo=place, fold=fold).astimezone(UTC) for fold in (0, 1)]
    assert instant in readings
    assert instant == max(readings)


# --- never ------------------------------------------------------------------------------------------------------------

NEVER: dict[str, tuple[RawValue, tuple[int | float | str, ...], Vocabulary, bool]] = {
    "NULL": (None, (), EPOCH, True),
    "zero": (0, (0,), EPOCH, True),
    "zero as a real": (0.0, (0,), EPOCH, True),
    "a real of the list stored as an integer": (5, (5.0,), EPOCH, True),
    "the text of a number is not the number": ("0", (0,), EPOCH, False),
    "the number is not its text": (0, ("0",), EPOCH, False),
    "a word": ("never", ("never",), TEXT, True),
    "another case": ("Never", ("never",), TEXT, False),
    "a date alone, when listed": ("9999-12-31", ("9999-12-31",), TEXT, True),
    "a date alone": ("9999-12-31", (), TEXT, False),
    "a number among text": (0, (0,), TEXT, True),
    "the empty text": ("", ("",), TEXT, True),
    "a word among numbers": ("never", ("never",), EPOCH, True),
    "a blob": (b"never", ("never",), TEXT, False),
    "infinity": (float("inf"), (float("inf"),), EPOCH, True),
    "minus infinity is not infinity": (float("-inf"), (float("inf"),), EPOCH, False),
    "another number": (1, (0,), EPOCH, False),
}


@pytest.mark.parametrize(("value", "never", "words", "expected"), NEVER.values(), ids=NEVER.keys())
def test_never_is_a_value_of_the_list_and_of_its_type(
    value: RawValue, never: tuple[int | float | str, ...], words: Vocabulary, *, expected: bool
) -> None:
    listed = msgspec.structs.replace(words, never=never)
    if expected:
        assert read_instant(value, listed) is None
    else:
        with pytest.raises(Unreadable):
            read_instant(value, listed)


def test_an_instant_that_is_listed_is_never() -> None:
    assert read_instant(NOON_EPOCH, msgspec.structs.replace(EPOCH, never=(NOON_EPOCH,))) is None


# --- writing ----------------------------------------------------------------------------------------------------------

MOMENT = datetime(2026, 12, 1, 12, 34, 56, 789_012, tzinfo=UTC)
SPELLINGS: dict[str, tuple[RawValue, Vocabulary, RawValue]] = {
    "an integer": (NOON_EPOCH, EPOCH, NOON_EPOCH + 2096),
    "a real": (float(NOON_EPOCH), EPOCH, NOON_EPOCH + 2096.7890119552612),
    "milliseconds": (NOON_EPOCH * 1000, MILLISECONDS, NOON_EPOCH * 1000 + 2_096_789),
    "NULL among seconds": (None, EPOCH, NOON_EPOCH + 2096),
    "a word for never among seconds": ("never", EPOCH, NOON_EPOCH + 2096),
    "a blob among seconds": (b"x", EPOCH, NOON_EPOCH + 2096),
    "T and Z": ("2030-01-01T00:00:00Z", TEXT, "2026-12-01T12:34:56Z"),
    "space and Z": ("2030-01-01 00:00:00Z", TEXT, "2026-12-01 12:34:56Z"),
    "a space before Z": ("2030-01-01 00:00:00 Z", TEXT, "2026-12-01 12:34:56 Z"),
    "no seconds": ("2030-01-01T00:00Z", TEXT, "2026-12-01T12:34Z"),
    "milliseconds in text": ("2030-01-01T00:00:00.000Z", TEXT, "2026-12-01T12:34:56.789Z"),
    "one digit": ("2030-01-01T00:00:00.0Z", TEXT, "2026-12-01T12:34:56.7Z"),
    "six digits": ("2030-01-01T00:00:00.000000Z", TEXT, "2026-12-01T12:34:56.789012Z"),
    "nine digits": ("2030-01-01T00:00:00.000000000Z", TEXT, "2026-12-01T12:34:56.789012000Z"),
    "an offset": ("2030-01-01T00:00:00+05:30", TEXT, "2026-12-01T18:04:56+05:30"),
    "an offset west": ("2030-01-01 00:00:00-08:00", TEXT, "2026-12-01 04:34:56-08:00"),
    "a short offset": ("2030-01-01 00:00:00+02", TEXT, "2026-12-01 14:34:56+02"),
    "an offset of nothing": ("2030-01-01T00:00:00+00:00", TEXT, "2026-12-01T12:34:56+00:00"),
    "naive in a zone": ("2030-07-01 00:00:00", LOCAL, "2026-12-01 13:34:56"),
    "naive in a zone, no seconds": ("2030-07-01T00:00", LOCAL, "2026-12-01T13:34"),
    "an offset although there is a zone": ("2030-01-01T00:00:00Z", LOCAL, "2026-12-01T12:34:56Z"),
    "NULL among text": (None, TEXT, "2026-12-01 12:34:56Z"),
    "an offset without a colon": ("2030-01-01T00:00:00+0530", TEXT, "2026-12-01T18:04:56+0530"),
    "the name UTC": ("2030-01-01 00:00:00 UTC", TEXT, "2026-12-01 12:34:56 UTC"),
    "the name utc": ("2030-01-01 00:00utc", TEXT, "2026-12-01 12:34utc"),
    "as Go writes it": ("2030-01-01 00:00:00 +0000 UTC", TEXT, "2026-12-01 12:34:56 +0000 UTC"),
    "small letters": ("2030-01-01t00:00:00z", TEXT, "2026-12-01t12:34:56z"),
    "a comma": ("2030-01-01T00:00:00,000Z", TEXT, "2026-12-01T12:34:56,789Z"),
    "no instant among text": ("never", TEXT, "2026-12-01 12:34:56Z"),
    "a date alone": ("9999-12-31", LOCAL, "2026-12-01 12:34:56Z"),
    "a number among text": (0, TEXT, "2026-12-01 12:34:56Z"),
}


@pytest.mark.parametrize(("pattern", "words", "expected"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_an_instant_is_written_as_the_expiry_of_its_row_is(
    pattern: RawValue, words: Vocabulary, expected: RawValue
) -> None:
    written = written_like(pattern, MOMENT, words)
    assert written == expected
    assert type(written) is type(expected)


instants = st.datetimes(datetime(2001, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
offsets = st.sampled_from(
    [
        *("Z", "+00:00", "+05:30", "-08:00", "+02", "-11", "+14:00", "-00:00", "+23:59", "-23:59"),
        *("z", "UTC", "utc", "+0000", "-0530", "+1400", "+0000 UTC", "-00:00 utc", "+00 UTC"),
    ]
)
PRECISIONS = {"": timedelta(minutes=1), ":00": timedelta(seconds=1)}
PRECISIONS |= {f":00.{'0' * digits}": timedelta(seconds=1) / 10 ** min(digits, 6) for digits in range(1, 10)}


def masked(text: str) -> str:
    """The spelling of an instant, whatever it is."""
    return re.sub("[0-9]", "0", text)


@given(
    instants,
    st.sampled_from("Tt "),
    st.sampled_from(sorted(PRECISIONS)),
    st.sampled_from(".,"),
    st.sampled_from(["", " "]),
    offsets,
)
def test_text_with_an_offset_is_rounded_down_to_its_precision(
    instant: datetime, separator: str, seconds: str, mark: str, space: str, offset: str
) -> None:
    pattern = f"2030-01-01{separator}00:00{seconds.replace('.', mark)}{space}{offset}"
    written = written_like(pattern, instant, TEXT)
    assert isinstance(written, str)
    assert masked(written) == masked(pattern)
    read = read_instant(written, TEXT)
    assert read is not None
    assert timedelta(0) <= instant - read < PRECISIONS[seconds]


@given(instants, st.sampled_from("T "), st.sampled_from(sorted(PRECISIONS)), zones)
def test_text_without_an_offset_is_rounded_down_to_its_precision(
    instant: datetime, separator: str, seconds: str, zone: str
) -> None:
    words = Vocabulary(timestamps="iso8601", timezone=ZoneInfo(zone))
    local = instant.astimezone(words.timezone)
    other_readings = {local.replace(fold=fold).utcoffset() for fold in (0, 1)}
    # In the hour that is read twice a local time cannot say which one it is: see the next test.
    assume(len(other_readings) == 1)
    pattern = f"2030-01-01{separator}00:00{seconds}"
    read = read_instant(written_like(pattern, instant, words), words)
    assert read is not None
    assert timedelta(0) <= instant - read < PRECISIONS[seconds]


def test_in_the_hour_that_is_read_twice_the_wall_clock_is_written() -> None:
    for hour in (0, 1):
        instant = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
        assert written_like("2030-01-01 00:00:00", instant, LOCAL) == "2026-10-25 02:30:00"


@given(instants, st.sampled_from([EPOCH, MILLISECONDS]))
def test_an_integer_is_rounded_down_to_its_unit(instant: datetime, words: Vocabulary) -> None:
    unit = timedelta(seconds=1) if words is EPOCH else timedelta(milliseconds=1)
    read = read_instant(written_like(NOON_EPOCH, instant, words), words)
    assert read is not None
    assert timedelta(0) <= instant - read < unit


@given(instants, st.sampled_from([EPOCH, MILLISECONDS]))
@example(datetime(2026, 12, 1, 12, 0, 0, 3, tzinfo=UTC), EPOCH)
def test_a_real_is_rounded_down_to_what_it_can_hold(instant: datetime, words: Vocabulary) -> None:
    read = read_instant(written_like(1.5, instant, words), words)
    assert read is not None
    assert timedelta(0) <= instant - read <= 2 * MICROSECOND


@given(instants, st.none() | st.text(max_size=5) | st.integers() | st.binary(max_size=3), zones)
def test_where_there_is_no_pattern_the_plainest_spelling_is_read_back(
    instant: datetime, pattern: RawValue, zone: str
) -> None:
    for words in (TEXT, Vocabulary(timestamps="iso8601", timezone=ZoneInfo(zone))):
        read = read_instant(written_like(pattern, instant, words), words)
        assert read is not None
        assert timedelta(0) <= instant - read < timedelta(seconds=1)
