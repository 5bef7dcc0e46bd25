"""Adapters without their library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.adapters import LIBRARIES


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_an_error_with_the_extra(name):
    script = (
        f"import sys; sys.modules[{LIBRARIES[name][0]!r}] = None\n"
        "from cfplatform import ConfigurationError\n"
        f"try:\n    from cfplatform.adapters import {name}\n"
        "except ConfigurationError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"pip install 'cfplatform[{name}]'" in done.stdout


def test_the_package_itself_brings_no_library():
    script = f"import cfplatform.adapters, sys; print({set(sum(LIBRARIES.values(), ()))!r} & {{*sys.modules}})"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
