"""What tests read of an HTML page."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

#: Elements that run or load something, wherever they stand.
_ACTIVE = {
    "script",
    "iframe",
    "object",
    "embed",
    "link",
    "base",
    "form",
    "img",
    "image",
    "foreignobject",
    "use",
    "video",
}


class Page(HTMLParser):
    """The elements of a page, its texts, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def check_alone(self) -> None:
        """Assert that the page loads and runs nothing, and that its policy forbids that and allows its style."""
        assert not {name for name, _ in self.elements} & _ACTIVE
        for _, attributes in self.elements:
            assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset")]
            assert (attributes.get("href") or "#").startswith("#")
        (policy,) = [each["content"] or "" for each in self.named("meta") if each.get("http-equiv")]
        style = self.texts[self.style_at()]
        assert "url(" not in style
        assert "@import" not in style
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert "default-src 'none'" in policy
        assert re.findall(r"(\w+-src) ([^;]+)", policy) == [
            ("default-src", "'none'"),
            ("style-src", f"'sha256-{digest}'"),
        ]

    def style_at(self) -> int:
        """The position of the style sheet among the texts."""
        return next(at for at, text in enumerate(self.texts) if "color-scheme" in text)

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]
