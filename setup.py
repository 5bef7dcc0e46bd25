"""The settings are in setup.cfg; this adds the description, whose links must also work outside the repository."""

import configparser
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def description() -> str:
    """README.rst with links that are valid on a package index, which has no other file of the repository.

    They lead to the repository that ``url`` in setup.cfg names. Without it, they become text.
    """
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(HERE / "setup.cfg", encoding="utf-8")
    home = settings["metadata"].get("url", "").rstrip("/")
    text = (HERE / "README.rst").read_text(encoding="utf-8")
    if not home:
        text = re.sub(r"^\.\. image:: (?!https:).*\n(?: .*\n)*\n", "", text, flags=re.MULTILINE)
        return re.sub(r"`([^`<]+?)\s+<(?!https:)[^`>]+>`__", r"\1", text)
    text = re.sub(r"^\.\. image:: (?!https:)", rf".. image:: {home}/raw/HEAD/", text, flags=re.MULTILINE)
    return re.sub(r"(`[^`<]+\s<|:target: )(?!https:)(?=\S)", rf"\1{home}/blob/HEAD/", text)


setup(long_description=description(), long_description_content_type="text/x-rst")
