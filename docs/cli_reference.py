"""Writes the pages of the command line: ``python docs/cli_reference.py``. A test fails if they are out of date.

``docs/cli.rst`` is the introduction with the shared options; ``docs/cli/`` has a page for each group of commands.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from cfplatform.cli import cli
from cfplatform.cli.doctor import Check
from cfplatform.cli.errors import metavar
from cfplatform.cli.groups import EXAMPLES
from cfplatform.cli.options import SECTIONS, Option, SharedOption
from cfplatform.cli.transfers import Upload
from cfplatform.coco import (
    Agreement,
    BatchStats,
    CategoryStats,
    Comparison,
    ConvertSummary,
    Finding,
    ImageAgreement,
    MergeSummary,
    Part,
    SplitSummary,
    Stats,
)
from cfplatform.coco.merging import Summary
from cfplatform.report import ReportSummary
from cfplatform.resources.results import DownloadResult, DownloadSummary

HERE = Path(__file__).parent
INTRODUCTION = HERE / "cli_introduction.txt"
#: The page of each section of ``cfplatform --help``; the introduction lists them.
PAGES = {title: f"cli/{title.lower().replace(' ', '-')}" for title in cli.sections}


class Field(NamedTuple):
    """A field of a JSON object: its name, its JSON types, and what it means."""

    name: str
    kind: str
    meaning: str


class Line(NamedTuple):
    """One kind of line that a command writes; a server may add fields to an object that is its own."""

    description: str
    fields: tuple[Field, ...]
    from_platform: bool = False


_JSON_TYPES = {"str": "text", "Path": "text", "CFPlatformError": "text", "int": "integer", "float": "number"}
_JSON_TYPES["Any"] = "anything"
_JSON_TYPES |= dict.fromkeys(("list[ImageAgreement]", "list[Finding]"), "array")


def fields_of(kind: type, *left_out: str) -> tuple[Field, ...]:
    """The fields of a class that is printed with its own names: types from its annotations, meanings from its words."""
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    meanings = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)$", attributes, re.MULTILINE))
    return tuple(
        Field(
            name,
            _json_types(getattr(annotation, "__forward_arg__", annotation)),
            " ".join(meanings[name].split()).replace("``None``", "null"),
        )
        for name, annotation in inspect.get_annotations(kind).items()
        if name not in left_out
    )


def _json_types(annotation: str) -> str:
    names = annotation.split(" | ")
    return " or ".join(dict.fromkeys(_json_type(name) for name in names))


def _json_type(name: str) -> str:
    return "null" if name == "None" else "object" if name.startswith("dict[") else _JSON_TYPES[name]


def _texts(**meanings: str) -> tuple[Field, ...]:
    return tuple(Field(name, "text", meaning) for name, meaning in meanings.items())


_SUMMARY = Field("summary", "object", "The figures of the run, with the fields below.")
_FIGURES = fields_of(DownloadSummary, "run", "state")
_WORK_ITEM = Line(
    "A work item, as received from the platform",
    (
        *_texts(id="The ID.", projectId="The project."),
        Field("batchId", "integer or null", "The batch."),
        Field("status", "text", "The status, such as COMPLETED."),
        Field("assetType", "text or null", "The type, such as image or video."),
        Field("assetUrl", "text", "The asset: a path in the space, or a URL."),
        Field("resultUrl", "text or null", "The storage path of the result, if the platform has one."),
        *_texts(createdAt="Creation time, in ISO 8601.", updatedAt="Time of the last change."),
        Field("metadata", "object", "The metadata given at its creation."),
    ),
    from_platform=True,
)
_BATCH_FIELDS = (
    Field("id", "integer", "The ID."),
    *_texts(
        projectId="The project.",
        name="The name.",
        createdBy="The user who created it.",
        createdAt="Creation time, in ISO 8601.",
    ),
    Field("metadata", "object", "The metadata given at its creation."),
    Field("priority", "integer", "The priority."),
)
_BATCH = Line("The batch, as received from the platform", _BATCH_FIELDS, from_platform=True)
_EXPORT = Line(
    "An export, as received from the platform",
    (
        *_texts(exportId="The ID.", status="The status, such as COMPLETED.", name="The name."),
        *_texts(format="The format.", content="The content.", createdBy="The creator.", createdAt="The creation time."),
        Field("downloadUrl", "text or null", "The signed URL of the archive: anyone who has it can read the archive."),
        Field("error", "text or null", "Why the export failed."),
    ),
    from_platform=True,
)
_FINDING = Line("An error or a warning", fields_of(Finding))
_JOINED = fields_of(Summary, "problems", "conflicts")
#: The lines that each command writes with --json. An empty one is the response of the server.
_AGREEMENT = (
    *fields_of(Agreement, "iou_sum"),
    Field("precision", "number or null", "The share of the second set that is in the first."),
    Field("recall", "number or null", "The share of the first set that is in the second."),
    Field("f1", "number or null", "The harmonic mean of both; null if there is nothing on either side."),
    Field("mean_iou", "number or null", "The mean intersection over union of matched objects."),
)
LINES: dict[str, tuple[Line, ...]] = {
    "batches create": (_BATCH,),
    "batches list": (
        Line(
            "A batch, as received from the platform",
            (
                *_BATCH_FIELDS,
                Field("totalCount", "integer", "All work items."),
                Field("completedCount", "integer", "Completed work items."),
            ),
            from_platform=True,
        ),
    ),
    "batches rename": (_BATCH,),
    "compare": (
        Line(
            "The figures, and those of all categories together",
            (
                *fields_of(Comparison, "total"),
                *(each for each in _AGREEMENT if each.name not in ("ap", "ap50")),
            ),
        ),
        Line("The figures of each category in ``categories``", _AGREEMENT),
        Line("An image in ``worst``", fields_of(ImageAgreement)),
        Line("A finding in ``findings``", fields_of(Finding)),
    ),
    "completion": (Line("The script", (Field("shell", "text", "The shell."), Field("script", "text", "The script."))),),
    "convert": (
        _FINDING,
        Line("The last line", (_SUMMARY,)),
        Line("The fields of ``summary``", (*_JOINED, *fields_of(ConvertSummary))),
    ),
    "count": (Line("The number", (Field("count", "integer", "The number of work items."),)),),
    "demo": (
        Line(
            "The summary of the run",
            (
                _SUMMARY,
                Field("requests", "object", "The number of requests to the platform, by kind."),
                Field("report", "text or null", "The page with the images; null if there is nothing to show."),
            ),
        ),
        Line("The fields of ``summary``", _FIGURES),
    ),
    "doctor": (Line("A check", fields_of(Check)),),
    "download": (
        Line("A work item", fields_of(DownloadResult, "written")),
        Line("The last line", (_SUMMARY,)),
        Line("The fields of ``summary``", _FIGURES),
    ),
    "exports create": (_EXPORT,),
    "exports delete": (Line("The deleted export", _texts(deleted="The ID.")),),
    "exports download": (Line("The saved archive", _texts(path="The archive; with --extract its folder.")),),
    "exports get": (_EXPORT,),
    "exports list": (_EXPORT,),
    "exports wait": (_EXPORT,),
    "merge": (
        _FINDING,
        Line("The last line", (_SUMMARY,)),
        Line("The fields of ``summary``", (*_JOINED, *fields_of(MergeSummary))),
    ),
    "report": (Line("The page that was written", fields_of(ReportSummary)),),
    "request": (
        Line("The response body", (), from_platform=True),
        Line(
            "With ``--include``",
            (
                Field("status", "integer", "The status of the response."),
                Field("headers", "object", "Its headers."),
                Field("body", "anything", "Its body; a string if it is not JSON."),
            ),
        ),
    ),
    "sandbox outage": (
        Line(
            "The planned outage",
            (
                Field("seconds", "number", "Its duration."),
                Field("status", "integer or text", "The HTTP status, or reset, close or refused."),
                Field("at", "array", "The endpoints that fail; empty for all of them."),
                Field("after", "number", "Seconds until it begins."),
                Field("headers", "object", "Headers added to the responses."),
            ),
        ),
    ),
    "sandbox run": (
        Line(
            "Its connection settings",
            _texts(base_url="For CF_PLATFORM_BASE_URL.", api_key="For CF_API_KEY.")
            + _texts(project_id="For CF_PROJECT_ID.", space_id="For CF_SPACE_ID."),
        ),
    ),
    "sandbox set-status": (_WORK_ITEM,),
    "split": (
        _FINDING,
        Line("The last line", (_SUMMARY,)),
        Line("The fields of ``summary``", (*_JOINED, *fields_of(SplitSummary))),
        Line("The fields of each part", fields_of(Part)),
    ),
    "stats": (
        Line(
            "The figures",
            (
                *fields_of(Stats),
                Field("crowd_share", "number", "The share of crowds among all annotations, from 0 to 1."),
            ),
        ),
        Line(
            "The figures of each category in ``categories``",
            (
                *fields_of(CategoryStats),
                Field("mean_side", "number", "The side, in pixels, of a square with the mean area of the boxes."),
            ),
        ),
        Line("The figures of each batch in ``batches``", fields_of(BatchStats)),
    ),
    "upload": (Line("A file", fields_of(Upload)),),
    "validate": (Line("A finding", fields_of(Finding)),),
    "webhook listen": (Line("The body of each delivery, as received", (), from_platform=True),),
    "webhook verify": (Line("The body of the delivery, as received", (), from_platform=True),),
    "work-items annotation": (
        Line(
            "The annotation, as received from the platform",
            (
                *_texts(id="The ID.", projectID="The project.", workItemID="The work item."),
                Field("metadata", "object", "With ``coco_results_url``, the storage path of the COCO document."),
            ),
            from_platform=True,
        ),
    ),
    "work-items create": (
        _WORK_ITEM,
        Line(
            "An asset, if a local file or several assets are given",
            (
                Field("asset", "text", "The asset, as given."),
                Field(
                    "item",
                    "object or null",
                    "The work item, with the fields above. For an item that existed already, only some of them.",
                ),
                Field("uploaded", "object or null", "The file in the storage: path, size, content_type and name."),
                Field("error", "text or null", "Why it failed."),
                Field("existed", "boolean", "Whether an earlier run had created the item."),
                Field("error_type", "text or null", "The class of the error."),
            ),
        ),
    ),
    "work-items get": (_WORK_ITEM,),
    "work-items list": (_WORK_ITEM,),
}


def commands(group: click.Group = cli, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, groups before what they hold."""
    for name in sorted(group.commands):
        found = group.commands[name]
        yield " ".join((*names, name)), found
        if isinstance(found, click.Group):
            yield from commands(found, (*names, name))


def pages() -> Iterator[tuple[Path, str]]:
    """The path and the content of each page."""
    yield HERE / "cli.rst", _joined(_introduction())
    for title, name in PAGES.items():
        yield HERE / f"{name}.rst", _joined(_group(title))


def _joined(parts: Iterator[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _introduction() -> Iterator[str]:
    yield INTRODUCTION.read_text(encoding="utf-8").rstrip()
    yield ".. _cli-shared-options:\n\nShared options\n--------------"
    yield (
        "These options work before and after the name of a command. Every command takes ``--json``, ``--quiet``, "
        "``--debug`` and\n``--help``; commands that use the platform take the others."
    )
    yield from (_option(each) for each in cli.params if isinstance(each, Option) and each.name != "version")
    yield "Former names\n------------"
    yield "These names of options still work, but neither help nor completion shows them."
    yield ".. list-table::\n   :header-rows: 1\n\n   * - Former name\n     - Name\n     - Commands\n" + "\n".join(
        f"   * - ``{former}``\n     - ``{name}``\n     - {', '.join(f'``{each}``' for each in used)}"
        for (former, name), used in former_names().items()
    )


def former_names() -> dict[tuple[str, str], list[str]]:
    """The commands that have an option, by its former name and the name of today."""
    found: dict[tuple[str, str], list[str]] = {}
    for command_name, command in commands():
        for each in command.params:
            for former in getattr(each, "aliases", ()):
                found.setdefault((former, max(each.opts, key=len)), []).append(command_name)
    found["--latency MILLISECONDS", "--latency-seconds SECONDS"] = ["sandbox run"]
    return dict(sorted(found.items()))


def _group(title: str) -> Iterator[str]:
    yield f"{title}\n{'=' * len(title)}"
    yield ".. This page is generated by cli_reference.py from the commands."
    yield "All commands also take :ref:`shared options <cli-shared-options>`."
    for first in cli.sections[title]:
        for name, command in commands():
            if name.split()[0] == first:
                yield from _section(name, command)


def _section(name: str, command: click.Command) -> Iterator[str]:
    title = f"cfplatform {name}"
    yield f"{title}\n{('~' if ' ' in name else '-') * len(title)}"
    text, _, examples = inspect.cleandoc(command.help or "").partition(EXAMPLES)
    if not isinstance(command, click.Group):
        words = [_metavar(p) for p in command.params if isinstance(p, click.Argument)]
        yield _code("text", " ".join([title, *words, "[OPTIONS]"]))
    yield from (_filled(paragraph) for paragraph in text.strip().split("\n\n"))
    yield "**Examples**"
    # Not a console session: some lines have comments beside them.
    yield _code("text", textwrap.dedent(examples))
    if isinstance(command, click.Group):
        return
    for section in SECTIONS:
        options = [
            _option(p) for p in command.params if isinstance(p, Option) and p.section == section and not p.hidden
        ]
        if options:
            yield f"**{section}**"
            yield "\n\n".join(options)
    connection = [f"``{p.opts[0]}``" for p in command.params if isinstance(p, SharedOption) and not p.is_flag]
    if connection:
        yield textwrap.fill(f"**Connection options**: {', '.join(connection)}.", 118, break_on_hyphens=False)
    for line in LINES[name]:
        yield from _json(line)


def _metavar(argument: click.Argument) -> str:
    shown = metavar(argument) + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def _option(option: Option) -> str:
    words = ", ".join(f"``{each}``" for each in sorted(option.opts, key=len))
    if not option.is_flag:
        words += f" ``{option.metavar}``"
    text, _, default = (option.help or "").removesuffix("]").partition("  [default: ")
    parts = [_plain(text)]
    if default:
        parts.append(f"Default: {default}." if " " in default else f"Default: ``{default}``.")
    if option.envvar:
        parts.append(f"Variable: ``{option.envvar}``.")
    if option.show_default:
        usual = option.default
        parts.append(f"Default: ``{', '.join(usual) if isinstance(usual, list) else usual}``.")
    return f"{words}\n   {' '.join(parts)}"


def _json(line: Line) -> Iterator[str]:
    yield f"**JSON**: {line.description[0].lower()}{line.description[1:]}{':' if line.fields else '.'}"
    if line.fields:
        yield "\n".join(f"- ``{field.name}`` ({field.kind}): {_with_code(field.meaning)}" for field in line.fields)


def _with_code(text: str) -> str:
    """Escape a text that may have code in it."""
    return "``".join(part if i % 2 else _plain(part) for i, part in enumerate(text.split("``")))


#: What is code in the words of a command, quoted or an option; and what would be markup.
_SPECIAL = re.compile(r'"([^"]+)"|(?<![\w-])(--?[a-z][a-z-]*)|([\\*`|_])')


def _plain(text: str) -> str:
    """Mark what is code, and escape what would be markup."""

    def spelled(found: re.Match[str]) -> str:
        quoted, option, mark = found.groups()
        return f"\\{mark}" if mark else f"``{quoted or option}``"

    return _SPECIAL.sub(spelled, text)


def _filled(paragraph: str) -> str:
    return textwrap.fill(_plain(" ".join(paragraph.split())), 118, break_on_hyphens=False, break_long_words=False)


def _code(language: str, text: Any) -> str:
    return f".. code-block:: {language}\n\n{textwrap.indent(text.rstrip(), '   ')}"


if __name__ == "__main__":
    for path, content in pages():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
