"""The directive ``finding-codes``: a table of ``coco.CODES``."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from cfplatform.coco import CODES


class FindingCodes(SphinxDirective):
    """Has no arguments and no content: the package has the texts."""

    def run(self):
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 14 52", ""]
        for row in [("Code", "Severity", "Meaning"), *((f"``{code}``", *meaning) for code, meaning in CODES.items())]:
            lines += [f"   {mark} - {cell}" for mark, cell in zip("*  ", row, strict=True)]
        table = nodes.Element()
        self.state.nested_parse(StringList(lines, "finding-codes"), 0, table)
        return table.children


def setup(app):
    app.add_directive("finding-codes", FindingCodes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
