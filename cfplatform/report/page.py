"""The page: a rendered template in pieces, so that only one image is in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime, timezone
from importlib import resources
from pathlib import PurePath
from typing import Any
from xml.etree import ElementTree

import jinja2
import pygal
from markupsafe import Markup, escape
from pygal.style import Style

from .. import naming
from .._version import __version__
from ..coco.findings import CODES, FindingGroup
from ..coco.statistics import BatchStats
from ..resources import Batch
from ..viz.drawing import readable
from .survey import Sample, Survey, opening, shown, totals
from .thumbnails import Thumbnail, media_type

# pygal installs an import hook for its plug-ins; before Python 3.12 it makes each import of a missing module warn.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

#: Maximum number of table rows and chart bars; the rest is counted.
MAX_ROWS, MAX_BARS = 200, 15
#: Images at the top.
STRIP = 6
#: Maximum number of choices of a filter; others are found by typing.
MAX_CHOICES = 500
#: Placeholder for the images. Text of documents is escaped, so it cannot contain this.
_IMAGES = "<!-- images -->"
#: Characters that an HTML parser could misread.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})

#: Elements to remove: the page has its own style sheet and script.
_LEFT_OUT = {"script", "style", "desc"}
_LABEL = 22
_WIDTH = 420
#: Only affects the space for labels; the style sheet of the page sets the colors.
_STYLE = Style(label_font_size=14, value_font_size=12)
_SIZES = {"small": "< 32²", "medium": "≤ 96²", "large": "> 96²"}


class Page:
    """The page in pieces, each with at most one image."""

    def __init__(self, found: Survey, title: str, batches: Sequence[Batch] | None, made_at: datetime | None) -> None:
        groups = found.findings.sorted()
        self._samples = found.samples
        self._strip = opening(found.samples, STRIP)
        self._others = sorted({*range(len(found.samples))} - {*self._strip})
        self._texts = filled(
            "report",
            {**_index(found, groups), "strip": self._strip},
            strip=self._strip,
            image_files=found.assets.total(),
            title=title,
            subject="dataset report",
            made_at=made_at,
            totals=totals(found),
            batches=_batches(found, batches),
            of_platform=batches is not None,
            classes=list(found.stats.categories.items()),
            **_charts(found),
            groups=[(group, CODES[group.code].meaning.replace("``", "")) for group in groups],
            stats=found.stats,
            places=max(found.images, len(found.samples)),
            samples=len(found.samples),
            max_rows=MAX_ROWS,
            max_bars=MAX_BARS,
        )

    @property
    def order(self) -> list[int]:
        """The positions of the samples in the order in which their images are on the page."""
        return self._strip + self._others

    def pieces(self, drawn: Iterator[Thumbnail]) -> Generator[str]:
        """Yield the page with these images, which are in the order of :attr:`order`."""
        head, *middle, tail = self._texts
        yield head
        for number, thumbnail in zip(self._strip, drawn, strict=False):
            yield _strip_item(number, self._samples[number], thumbnail)
        yield from middle
        for number, thumbnail in zip(self._others, drawn, strict=False):
            yield image_block(number, thumbnail)
        yield tail


def filled(name: str, index: dict[str, Any], *, made_at: datetime | None, **values: Any) -> list[str]:
    """Render a page, and return its parts before, between and after the images.

    Args:
        name: The name of its template, script and style sheet; the style sheet of the report is included, too.
        index: The data for its script.
        made_at: The creation time to show, or ``None``.
        values: The other variables of the template.
    """
    style = "\n".join(map(_file, dict.fromkeys(["report.css", f"{name}.css"])))
    script = "\n".join(map(_file, ["gallery.js", f"{name}.js"]))
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["stem"] = lambda path: PurePath(path or "").stem
    text = environment.get_template(f"{name}.html").render(
        made_at=made_at,
        made_at_text=None if made_at is None else f"{made_at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=__version__,
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        index=Markup(_script_json(index)),  # noqa: S704 - escaped for a script
        images=Markup(_IMAGES),  # noqa: S704
        **values,
    )
    return text.split(_IMAGES)


def image_block(number: int, thumbnail: Thumbnail) -> str:
    """Return an image as a block that a browser neither runs nor decodes until it is shown."""
    return f'<script type="text/plain" id="p{number}"{_note(thumbnail)}>{thumbnail.text}</script>\n'


def _strip_item(number: int, sample: Sample, thumbnail: Thumbnail) -> str:
    """Return an image that is shown before scripts run; the gallery takes it from here."""
    classes = ", ".join(f"{count} × {shown(name)}" for name, count in sample.classes.items())
    unclassed = f"{sample.annotations} × no class" if sample.annotations else "no annotations"
    words = escape(classes or unclassed)
    source = f' src="data:{media_type()};base64,{thumbnail.text}"' if thumbnail.text else ""
    return (
        f'<li><button type="button" data-number="{number}">'
        f'<img id="p{number}"{_note(thumbnail)}{source} alt="Image with {words}">'
        f'<span class="what"><bdi>{escape(shown(thumbnail.note)) or words}</bdi></span></button></li>\n'
    )


def _note(thumbnail: Thumbnail) -> str:
    return f' data-note="{escape(shown(thumbnail.note))}"' if thumbnail.note else ""


def _file(name: str) -> str:
    return (resources.files("cfplatform.report") / "templates" / name).read_text(encoding="utf-8")


def _script_json(value: Any) -> str:
    """Return ASCII JSON that cannot end the script block around it."""
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)


def _policy(style: str, script: str) -> str:
    """Return the content security policy: the page may run its script and show its images, but load nothing."""
    allowed = {kind: f"'sha256-{_digest(text)}'" for kind, text in (("style-src", style), ("script-src", script))}
    rules = {"default-src": "'none'", "img-src": "data:", **allowed, "base-uri": "'none'", "form-action": "'none'"}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _index(found: Survey, groups: Sequence[FindingGroup]) -> dict[str, Any]:
    """Return the samples for the gallery; they refer to batches, classes and codes by index."""
    batches = list(dict.fromkeys(sample.batch for sample in found.samples))
    classes = list(found.stats.categories)
    codes = [group.code for group in groups]
    positions = [{name: position for position, name in enumerate(names)} for names in (batches, classes, codes)]
    return {
        "kind": media_type(),
        "batches": [shown(name) for name in batches],
        "classes": [shown(name) for name in classes],
        "codes": [[code, CODES[code].severity] for code in codes],
        "choices": MAX_CHOICES,
        "samples": [_entry(sample, *positions) for sample in found.samples],
    }


def _entry(sample: Sample, batches: dict[str, int], classes: dict[str, int], codes: dict[str, int]) -> list[Any]:
    return [
        sample.item_id,
        batches[sample.batch],
        [number for name, count in sample.classes.items() for number in (classes[name], count)],
        sample.annotations,
        [codes[code] for code in sample.codes],
        sample.findings,
        sample.file_name,
    ]


def _batches(found: Survey, of_platform: Sequence[Batch] | None) -> list[dict[str, Any]]:
    """Return a row for each batch of the folder, and for batches of the platform that are not in the folder."""
    rows = {name: {"name": name, "figures": figures} for name, figures in found.stats.batches.items()}
    for batch in of_platform or ():
        name = naming.safe_name(batch.name or "")
        row = rows.setdefault(name, {"name": name, "figures": BatchStats()})
        row |= {"name": batch.name, "total": batch.total_count, "completed": batch.completed_count}
    return [
        {"total": None, "completed": None, "assets": found.assets[name], **row} for name, row in sorted(rows.items())
    ]


def _charts(found: Survey) -> dict[str, Markup]:
    stats = found.stats
    classes = [(name, each.annotations) for name, each in list(stats.categories.items())[:MAX_BARS]]
    sizes = [(f"{name} ({_SIZES[name]})", count) for name, count in stats.box_sizes.items()]
    sides = [(f"{side} to {max(1, 2 * side)} px", count) for side, count in list(stats.box_sides.items())[-MAX_BARS:]]
    return {
        "class_chart": _bars(classes, "Annotations by class"),
        "size_chart": _bars(sizes, "Objects by area"),
        "side_chart": _bars(sides, "Box sizes"),
    }


def _bars(values: Sequence[tuple[str, int]], title: str) -> Markup:
    """Return a bar chart as inline SVG, without scripts, styles or colors."""
    if not any(count for _, count in values):
        return Markup()
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
    chart.x_labels = [readable(name, _LABEL) for name, _ in upwards]
    chart.add("", [count for _, count in upwards])
    described = ", ".join(f"{readable(name)}: {count:,}" for name, count in values)
    return _inline(chart.render_tree(), f"{title}. {described}")


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
