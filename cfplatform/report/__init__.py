"""A report about labels: one HTML page that opens in any browser, offline (extra ``report``)."""

from __future__ import annotations

import importlib.util

from ..exceptions import ConfigurationError

if missing := [name for name in ("PIL", "jinja2", "pygal") if importlib.util.find_spec(name) is None]:
    raise ConfigurationError(f"A report needs {' and '.join(missing)}: pip install 'cfplatform[report]'")

from .comparing import DEFAULT_PAIRS, MAX_PAIRS, ComparisonSummary, write_comparison  # noqa: E402 - after the check above
from .writing import DEFAULT_SAMPLES, MAX_SAMPLES, ReportSummary, write_report  # noqa: E402 - after the check above

__all__ = [
    "DEFAULT_PAIRS",
    "DEFAULT_SAMPLES",
    "MAX_PAIRS",
    "MAX_SAMPLES",
    "ComparisonSummary",
    "ReportSummary",
    "write_comparison",
    "write_report",
]
