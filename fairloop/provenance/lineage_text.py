"""A lineage as a tree of lines and as a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape

from fairloop.provenance.lineage import Lineage, Node

WIDTH, HEIGHT, GAP, LAYER = 300, 46, 16, 96
"""Pixels: a box, the space beside it, and from one layer to the next."""
LONGEST = 44
"""Characters of a line in a box."""

COLOURS = {
    "dataset version": "#d7e8f7",
    "model version": "#e3dcf3",
    "annotations": "#dff0dc",
    "embeddings": "#dff0dc",
    "predictions": "#dff0dc",
    "activations": "#dff0dc",
    "report": "#fdeccb",
    "calibration": "#fdeccb",
    "weights": "#eeeeee",
    "published set": "#eeeeee",
}


def tree(lineage: Lineage) -> Iterator[str]:
    """One line a node, indented under the node that led to it; what stands further up is not repeated."""
    shown: set[str] = set()
    for root in lineage.roots:
        yield from _branch(lineage, root, "", "", shown)


def _branch(lineage: Lineage, root: str, first: str, rest: str, shown: set[str]) -> Iterator[str]:
    # A stack of its own: a chain may be longer than Python's.
    waiting = [(root, first, rest)]
    while waiting:
        name, lead, below = waiting.pop()
        if name in shown:
            yield f"{lead}{name}  (above)"
            continue
        shown.add(name)
        yield f"{lead}{line(lineage.nodes[name])}"
        following = lineage.edges.get(name, ())
        for place in range(len(following) - 1, -1, -1):
            last = place == len(following) - 1
            waiting.append(
                (following[place], below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
            )


def line(node: Node) -> str:
    """`datasets/x/versions/…  120 images, 40 subjects  [MIT]`, or what is wrong with it."""
    if node.wrong:
        return f"{node.name}  {node.wrong}"
    licences = ", ".join(dict.fromkeys(terms.licence for terms in node.terms if terms.licence != "unknown"))
    return "  ".join(filter(None, (node.name, node.title, f"[{licences}]" if licences else "")))


def svg(lineage: Lineage) -> str:
    """The graph as SVG: a box a node, in layers by the longest way from what was asked about."""
    layers = _layers(lineage)
    across = max(len(layer) for layer in layers)
    width = across * (WIDTH + GAP) + GAP
    height = len(layers) * LAYER
    places: dict[str, tuple[float, float]] = {}
    for depth, layer in enumerate(layers):
        start = (width - len(layer) * (WIDTH + GAP) + GAP) / 2
        for column, name in enumerate(layer):
            places[name] = (start + column * (WIDTH + GAP), depth * LAYER + (LAYER - HEIGHT) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f"<title>Lineage of {escape(', '.join(lineage.roots))}</title>",
    ]
    for name, following in lineage.edges.items():
        for other in following:
            parts.append(_edge(places[name], places[other]))
    for name, (left, top) in places.items():
        parts.append(_box(lineage.nodes[name], left, top))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _layers(lineage: Lineage) -> list[list[str]]:
    """Names by layer; within one, under the middle of what leads to them."""
    depth: dict[str, int] = dict.fromkeys(lineage.roots, 0)
    order = _forward(lineage)
    sources: dict[str, list[str]] = {}
    for name, following in order:
        for other in following:
            depth[other] = max(depth.get(other, 0), depth[name] + 1)
            sources.setdefault(other, []).append(name)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, _ in order:
        layers[depth[name]].append(name)
    for above, layer in pairwise(layers):
        place = {name: k / max(len(above), 1) for k, name in enumerate(above)}

        def middle(name: str, place: dict[str, float] = place) -> float:
            found = [place[source] for source in sources.get(name, ()) if source in place]
            return sum(found) / len(found) if found else 0.5

        layer.sort(key=middle)
    return layers


def _forward(lineage: Lineage) -> list[tuple[str, tuple[str, ...]]]:
    """Nodes before those they lead to, each with its edges; an edge that closes a circle is left out."""
    finished: dict[str, tuple[str, ...]] = {}
    open_: dict[str, list[str]] = {}
    for root in lineage.roots:
        stack = [(root, iter(lineage.edges.get(root, ())))] if root not in finished else []
        open_[root] = []
        while stack:
            name, rest = stack[-1]
            for other in rest:
                if other in open_ and other not in finished:
                    continue  # back to where we come from
                open_[name].append(other)
                if other not in finished:
                    open_[other] = []
                    stack.append((other, iter(lineage.edges.get(other, ()))))
                    break
            else:
                finished[name] = tuple(open_[name])
                stack.pop()
    return list(reversed(finished.items()))


def _edge(above: tuple[float, float], below: tuple[float, float]) -> str:
    left, top = above[0] + WIDTH / 2, above[1] + HEIGHT
    right, bottom = below[0] + WIDTH / 2, below[1]
    bend = (top + bottom) / 2
    return (
        f'<path d="M{left:.1f} {top:.1f}C{left:.1f} {bend:.1f} {right:.1f} {bend:.1f} '
        f'{right:.1f} {bottom:.1f}" fill="none" stroke="#888"/>'
    )


def _box(node: Node, left: float, top: float) -> str:
    colour = "#f8d7d7" if node.wrong else COLOURS.get(node.kind, "#ffffff")
    first, second = _cut(node.name), _cut(node.wrong or node.title)
    return (
        f'<g><title>{escape(line(node))}</title><rect x="{left:.1f}" y="{top:.1f}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="4" fill="{colour}" stroke="#666"/>'
        f'<text x="{left + 8:.1f}" y="{top + 19:.1f}">{escape(first)}</text>'
        f'<text x="{left + 8:.1f}" y="{top + 36:.1f}" fill="#444">{escape(second)}</text></g>'
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
