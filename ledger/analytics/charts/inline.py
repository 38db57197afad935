"""Charts as parts of HTML pages: SVG with a title and a description, in the page's colours, and a table."""

from __future__ import annotations

from html import escape
from xml.etree import ElementTree

from ledger.analytics.charts.picture import Picture, svg_of
from ledger.analytics.pages import page, table

#: Colours that a page replaces by its own, with the class that says so.
_CLASSES = {("fill", "#1f2328"): "ink", ("fill", "#59636e"): "muted", ("stroke", "#d8dee4"): "line"}
#: Attributes that the inline form leaves out: the marks' own descriptions, which would be read out one by one.
_DROPPED = ("aria-", "role", "style", "xmlns")


def section(picture: Picture) -> str:
    """Return a section of a page: heading, note, chart and table, all data escaped."""
    name = escape(picture.name)
    note = f'<p class="note">{escape(_sentence(picture.note))}</p>\n' if picture.note else ""
    heading = f'<h2 id="{name}-heading">{escape(picture.title)}</h2>'
    numbers = table(picture.title, picture.columns, picture.rows)
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">\n{heading}\n{note}'
        f"<figure>{inline_svg(picture)}</figure>\n{numbers}\n</section>"
    )


def chart_page(picture: Picture) -> str:
    """Return a page with one chart."""
    head = f"<h1>Charts</h1>\n<p>{escape(picture.days.text)}, days in UTC</p>"
    return page(f"{picture.title}, {picture.days.text}", f"{head}\n{section(picture)}")


def inline_svg(picture: Picture) -> str:
    """Return the chart as an SVG element of an HTML page.

    It is one picture for screen readers, which read its title and description. Text and lines have the classes
    ``ink``, ``muted`` and ``line``, so that the page colours them.
    """
    root = ElementTree.fromstring(svg_of(picture.untitled))  # noqa: S314 - of vl-convert, and not from elsewhere
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in [name for name in element.attrib if name.startswith(_DROPPED) or "}" in name or name == "class"]:
            del element.attrib[name]
        classes = [word for (name, colour), word in _CLASSES.items() if element.get(name) == colour]
        if classes:
            element.set("class", " ".join(classes))
    names = {part: f"{picture.name}-{part}" for part in ("title", "desc")}
    root.set("role", "img")
    root.set("aria-labelledby", " ".join(names.values()))
    texts = {"title": picture.title, "desc": _description(picture)}
    for position, (part, text) in enumerate(texts.items()):
        element = ElementTree.Element(part, {"id": names[part]})
        element.text = text
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _description(picture: Picture) -> str:
    rows = f"{len(picture.rows):,} row{'' if len(picture.rows) == 1 else 's'}"
    return f"{_sentence(picture.subtitle)} The table below has its numbers, in {rows}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
