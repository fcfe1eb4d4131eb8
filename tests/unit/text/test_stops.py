"""Stop strings do not depend on how the text is cut, and never show in the stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.text.stops import StopMatcher


def run(deltas: list[str], stops: list[str], include: bool = False) -> tuple[str, str | None]:
    matcher = StopMatcher(stops, include)
    shown = ""
    for delta in deltas:
        shown += matcher.feed(delta)
        if matcher.matched is not None:
            return shown, matcher.matched
    return shown + matcher.finish(), None


def slowly(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The definition: character by character, the longest stop string that just completed."""
    for end in range(1, len(text) + 1):
        for stop in sorted(set(stops), key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end if include else end - len(stop)], stop
    return text, None


@given(
    st.lists(st.text("ab\n", max_size=4), max_size=8),
    st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
    st.booleans(),
)
def test_is_the_definition(deltas: list[str], stops: list[str], include: bool) -> None:
    assert run(deltas, stops, include) == slowly("".join(deltas), stops, include)


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1))
def test_streams_only_what_stays(text: str, stops: list[str]) -> None:
    final, _ = slowly(text, stops, include=False)
    matcher = StopMatcher(stops)
    shown = ""
    for character in text:
        shown += matcher.feed(character)
        assert final.startswith(shown)
        if matcher.matched:
            break
    assert shown + matcher.finish() == final


@pytest.mark.parametrize(
    ("deltas", "stops", "expected"),
    [
        (["Hello", " wor", "ld"], ["world"], ("Hello ", "world")),
        (["abcd"], ["d", "bcd"], ("a", "bcd")),
        (["abc"], ["abc", "b"], ("a", "b")),
        (["no stop"], ["stopped"], ("no stop", None)),
        (["서", "울!"], ["울"], ("서", "울")),
    ],
)
def test_cases(deltas: list[str], stops: list[str], expected: tuple[str, str | None]) -> None:
    assert run(deltas, stops) == expected


def test_holds_back_exactly_a_possible_beginning() -> None:
    matcher = StopMatcher(["<|end|>"])
    assert matcher.feed("text <") == "text "
    assert matcher.feed("|e") == ""
    assert matcher.feed("x") == "<|ex"


def test_skip_ignores_stops() -> None:
    matcher = StopMatcher(["ab"])
    assert matcher.skip("abab a") == "abab a"
    assert matcher.feed("b") == "b"
    assert matcher.feed("ab") == ""
    assert matcher.matched == "ab"
    assert matcher.feed("more") == ""
