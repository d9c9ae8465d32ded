"""Finds what a page would fetch from the network. The book is read from disk, so there must be nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

#: element -> the attributes whose address a browser fetches by itself (a link that a reader follows is not one)
_FETCHED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "icon", "manifest"}
_REMOTE = re.compile(r"\s*(https?:|wss?:|//)", re.IGNORECASE)
_IN_CSS = re.compile(r"""(?:url\(\s*|@import\s+)["']?\s*((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
_IN_SCRIPT = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|\bfetch\(|\bimportScripts\(|\.src\s*=|URL\s*[=:])\s*["'`]((?:https?:)?//[^"'`]+)"""
)


def external_resources(folder: Path) -> list[str]:
    """``file: address`` for everything that a page or style sheet under ``folder`` loads from elsewhere."""
    found = []
    for file in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(file.read_text(encoding="utf-8"))
        found += [f"{file.relative_to(folder)}: {address}" for address in dict.fromkeys(page.addresses)]
    for file in sorted(folder.rglob("*.css")):
        addresses = _IN_CSS.findall(file.read_text(encoding="utf-8", errors="replace"))
        found += [f"{file.relative_to(folder)}: {address}" for address in dict.fromkeys(addresses)]
    return found


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        names = _FETCHED.get(tag, ())
        if tag == "link" and _LINKS & set(attributes.get("rel", "").lower().split()):
            names = ("href",)
        self.addresses += [attributes[name] for name in names if _REMOTE.match(attributes.get(name, ""))]
        self.addresses += _IN_CSS.findall(attributes.get("style", ""))
        if tag in ("script", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.addresses += (_IN_CSS if self._inside == "style" else _IN_SCRIPT).findall(data)
