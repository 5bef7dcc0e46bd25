"""The directive ``notebook``: cells and outputs of a notebook that was run before, without a dependency for it."""

import json
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Notebook(SphinxDirective):
    """Takes the path of the notebook, relative to the page. Its texts are plain paragraphs; headings are left out."""

    required_arguments = 1

    def run(self):
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        cells = json.loads(Path(absolute).read_text(encoding="utf-8"))["cells"]
        return [node for cell in cells for node in getattr(self, cell["cell_type"])(cell)]

    def markdown(self, cell):
        lines = [line.replace("`", "``") for line in "".join(cell["source"]).splitlines() if not line.startswith("# ")]
        paragraph = nodes.Element()
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, paragraph)
        return paragraph.children

    def code(self, cell):
        source = "".join(cell["source"])
        yield nodes.literal_block(source, source, language="python")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                yield html(f'<img src="data:image/png;base64,{"".join(data["image/png"]).strip()}" alt="">')
            elif "text/html" in data:
                yield html("".join(data["text/html"]))
            elif "application/vnd.jupyter.widget-view+json" not in data:
                yield html(f"<pre>{escape(''.join(output.get('text') or data['text/plain']))}</pre>")


def html(content):
    return nodes.raw("", f'<div class="notebook-output">{content}</div>', format="html")


def setup(app):
    app.add_directive("notebook", Notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
