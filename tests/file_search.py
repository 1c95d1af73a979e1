"""Words in the files below a folder, byte by byte."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from pathlib import Path

_SEARCH = """
import pathlib, sys
folder, *words = sys.argv[1:]
data = b"\\0".join(path.read_bytes() for path in pathlib.Path(folder).rglob("*") if path.is_file())
names = "\\0".join(str(path) for path in pathlib.Path(folder).rglob("*")).encode()
for whole in words:
    # A full-text index leaves out how a term begins if the one before it begins the same.
    word = whole[3:]
    forms = {word, word.lower(), word.upper(), word.lower().replace("ö", "o").replace("ç", "c")}
    codes = [form.encode(code) for form in forms for code in ("utf-8", "utf-16-le", "utf-16-be")]
    if any(code in data or code in names for code in codes):
        print(whole)
"""


async def in_files(folder: Path, words: Collection[str]) -> set[str]:
    """Those of the words that stand in a file. Another process looks: one that opens and closes a
    database's file gives up all locks that it has on it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SEARCH, str(folder), *words, stdout=asyncio.subprocess.PIPE
    )
    found, _ = await process.communicate()
    assert process.returncode == 0
    return set(found.decode().split())
