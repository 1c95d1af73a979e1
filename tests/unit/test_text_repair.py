"""What a provider sends is made fit to be stored, however it is cut into pieces."""

import pytest
from colloquy_server.providers.text_repair import TextRepair
from hypothesis import given
from hypothesis import strategies as st


def repair(pieces: list[str]) -> str:
    repairer = TextRepair()
    return "".join(repairer.feed(piece) for piece in pieces) + repairer.close()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_good_text_is_left_as_it_is(pieces: list[str]) -> None:
    assert repair(pieces) == "".join(pieces)


@given(st.lists(st.text(st.characters()), max_size=6))
def test_any_text_can_be_stored(pieces: list[str]) -> None:
    whole = repair(pieces)
    assert whole.encode().decode() == whole
    assert "\0" not in whole
    assert whole == repair(["".join(pieces)])


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["a\0b", "\0"], "ab"),
        (["smile \ud83d", "\ude00!"], "smile 😀!"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["\ud83d", "x"], "\ufffdx"),
        (["x\ude00"], "x\ufffd"),
        (["\ud83d"], "\ufffd"),
        (["\ud83d\0", "\ude00"], "😀"),
    ],
)
def test_zeros_go_and_surrogates_are_repaired(pieces: list[str], whole: str) -> None:
    assert repair(pieces) == whole
