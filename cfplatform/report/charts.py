"""Charts as inline SVG, without scripts, styles and colours of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

from .text import shown

# pygal installs an import hook for its plug-ins; before Python 3.12 it makes each import of a missing module warn.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

#: Elements that are removed: the page has its own style sheet and script.
_LEFT_OUT = {"script", "style", "desc"}
_LABEL = 22
_WIDTH = 420
#: Only for the space of labels; the style sheet of the page sets the colours.
_STYLE = Style(label_font_size=14, value_font_size=12)


def bars(values: Sequence[tuple[str, int]], alternative: str) -> Markup:
    """Return a chart with horizontal bars.

    Args:
        values: The name and length of each bar.
        alternative: The text for screen readers.
    """
    chart = pygal.HorizontalBar(
        width=_WIDTH,
        height=60 + 24 * len(values),
        margin=8,
        margin_right=48,
        spacing=4,
        show_legend=False,
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        min_scale=2,
        max_scale=5,
        formatter=lambda value: f"{value:,.0f}",
        style=_STYLE,
        js=(),
        css=(),
        no_prefix=True,
    )
    # pygal draws from the bottom up.
    upwards = list(reversed(values))
    chart.x_labels = [shown(name, _LABEL) for name, _ in upwards]
    chart.add("", [count for _, count in upwards])
    return _inline(chart.render_tree(), alternative)


def _inline(tree: ElementTree.Element, alternative: str) -> Markup:
    for parent in list(tree.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] in _LEFT_OUT:
                parent.remove(child)
        for name in ("style", "id"):
            parent.attrib.pop(name, None)
    tree.attrib.update({"role": "img", "aria-label": alternative, "class": "chart"})
    for title in tree.findall("title"):
        title.text = alternative
    # ElementTree has escaped all text.
    return Markup(ElementTree.tostring(tree, encoding="unicode", method="html"))  # noqa: S704
