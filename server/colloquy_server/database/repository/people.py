"""The people of an account, as its members find them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, select, tuple_

from colloquy_server.database.models import User
from colloquy_server.database.rows import USER, UserRow
from colloquy_server.database.tokenizer import joined_words
from colloquy_server.database.transactions import Session

_behind = tuple_(User.words, User.id) > tuple_(
    bindparam("words", type_=Text), bindparam("after", type_=Text)
)
_has_word = User.words.like(bindparam("beginning", type_=Text))


def _page(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*USER, User.words)
        .where(User.is_leaving.is_(False), *conditions)
        .order_by(User.words, User.id)
        .limit(bindparam("size", type_=Integer))
    )


_PAGES = {
    (False, False): _page(),
    (True, False): _page(_behind),
    (False, True): _page(_has_word),
    (True, True): _page(_behind, _has_word),
}
"""By whether it is a later page, and whether words are looked for."""


def page(
    s: Session, *, limit: int, after: tuple[str, str] | None, query: str
) -> list[tuple[UserRow, str]]:
    """People by their names, each with the words by which they are in order, behind `after`: words
    and an id. Only those with a word that begins like the query, if there is one."""
    values: dict[str, object] = {"size": limit}
    if after is not None:
        values |= {"words": after[0], "after": after[1]}
    if query:
        words = joined_words(query)
        if not words:
            return []
        # They are letters and digits only, and so nothing that LIKE takes for more.
        values["beginning"] = f"%{words}%"
    rows = s.run(_PAGES[after is not None, bool(query)], values)
    return [(UserRow._make(row[:-1]), row[-1]) for row in rows]
