"""What ``cfplatform doctor`` knows of the package."""

from __future__ import annotations

import configparser
from pathlib import Path

from cfplatform.cli import doctor


def test_the_oldest_versions_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    for name, version in doctor.MINIMUM.items():
        assert f"{name}>={'.'.join(map(str, version))}" in config["options"]["install_requires"]
    extras = config["options.extras_require"]
    assert set(doctor.EXTRAS) == set(extras) - {"test", "docs", "dev"}
    for extra, names in doctor.EXTRAS.items():
        for name in names:
            assert name in extras[extra] or (extra, name) == ("sandbox", "cryptography")
