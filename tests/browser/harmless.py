"""Hostile texts, and what is required of a page that shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.async_api import Page

ROOT = Path(__file__).resolve().parents[2]
HOSTILE: list[str] = json.loads((ROOT / "clients/web/tests/hostile.json").read_text())
# A control character that no text of the API may have.
ALLOWED = [text.replace("\x00", "") for text in HOSTILE]

ELEMENTS = re.findall(
    r"\S+",
    """
article a audio b bdi blockquote br button circle code dd del div dl dt em figcaption figure footer
form h1 h2 h3 h4 h5 h6 header hr img input label li main nav ol option p path pre search section
select span strong svg table tbody td textarea th thead time tr ul
math semantics annotation mrow mi mn mo mtext msup msub msubsup mfrac msqrt mroot mover munder
munderover mtable mtr mtd mspace mstyle mpadded menclose mphantom
""",
)


async def require_harmless(page: Page, *more: str) -> None:
    """Requires that nothing of what is shown ran, and that it is made of what the page makes: of
    `more`, too, where the page shows that."""
    found = await page.evaluate(
        """elements => {
            const handlers = [...document.querySelectorAll("body *")]
                .flatMap((one) => [...one.attributes])
                .filter(({ name }) => name.startsWith("on") || name === "srcdoc");
            const links = [...document.querySelectorAll("a[href]")].map((one) => one.protocol);
            return {
                pwned: window.__pwned ?? null,
                names: [...new Set([...document.querySelectorAll("#page *")]
                    .map((one) => one.localName))].filter((name) => !elements.includes(name)),
                handlers: handlers.map(({ name }) => name),
                protocols: [...new Set(links)].filter(
                    (name) => !["http:", "https:", "mailto:"].includes(name)),
            };
        }""",
        [*ELEMENTS, *more],
    )
    assert found == {"pwned": None, "names": [], "handlers": [], "protocols": []}
