"""Charts as SVG that stands in the page: without scripts, styles and colours of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

from .texts import shown

# pygal leaves something in the way of every later import, for plug-ins that nobody needs here; before Python 3.12 each
# import of a missing module then warns.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

#: What a chart must not bring along: the page has a style sheet, and no script but its own.
_LEFT_OUT = {"script", "style", "desc"}
_LABEL = 22
_WIDTH = 420
#: Only for the room that labels get: the style sheet of the page has the colours.
_STYLE = Style(label_font_size=14, value_font_size=12)


def bars(values: Sequence[tuple[str, int]], alternative: str) -> Markup:
    """Return a chart with a bar for each value, one below the other.

    Args:
        values: What each bar is, and how long.
        alternative: What is read to people who do not see it.
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
    # The first is to stand at the top.
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
    # ElementTree has escaped every text.
    return Markup(ElementTree.tostring(tree, encoding="unicode", method="html"))  # noqa: S704
