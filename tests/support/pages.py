"""Reads a rendered page back."""

from __future__ import annotations

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects what a test asks of a page: numbers by their path, tags, text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.numbers: dict[str, list[tuple[str, str]]] = {}
        """Path to (full value, printed text), once for every place."""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self._open = dict(attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._open is not None:
            path, value = self._open["data-path"], self._open["data-value"]
            assert path is not None
            assert value is not None
            self.numbers.setdefault(path, []).append((value, data))
            self._open = None

    def find(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]

    def value(self, path: str) -> float | None:
        """The number at a path; None where the page shows a dash."""
        return float(self.numbers[path][0][0]) if path in self.numbers else None
