"""The directive ``notebook``: the cells and the stored outputs of a notebook."""

import json
from html import escape
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class Notebook(SphinxDirective):
    """Takes the path of the notebook, relative to the page. Its texts become paragraphs; headings are left out."""

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
        if cell["outputs"]:
            content = "".join(map(html, cell["outputs"]))
            yield nodes.raw("", f'<div class="notebook-output">{content}</div>', format="html")


def html(output):
    """Return an output as the page shows it: an image, a table or text."""
    data = output.get("data", {})
    if "image/png" in data:
        png = "".join(data["image/png"]).strip()
        return f'<img src="data:image/png;base64,{png}" alt="Annotated image">'
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"<pre>{escape(''.join(output.get('text') or data['text/plain']))}</pre>"


def setup(app):
    app.add_directive("notebook", Notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
