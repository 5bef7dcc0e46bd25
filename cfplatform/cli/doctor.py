"""``cfplatform doctor``: each check reports its finding and, if that is a problem, a fix."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import operator
import os
import platform
import re
import shutil
import ssl
import sys
import tempfile
import time
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO
from urllib.parse import quote, urlsplit

import click
from click.core import ParameterSource

from .. import __version__, config, params
from ..client import Client
from ..destination import local, remote
from ..exceptions import CFPlatformError, ConfigurationError, InvalidParameterError, server_words
from . import contract as contracts
from . import reading
from .common import Options, Output, opened, with_connection, with_output
from .errors import FAILED, message, reason
from .groups import command
from .options import OUTPUT, completing, option
from .text import amount, counted
from .tools import secret_of, without_secret

if TYPE_CHECKING:
    import requests

_OK, _WARNING, _FAILED = "ok", "warning", "failed"

#: Extras for work on the package itself.
_OF_DEVELOPERS = frozenset({"test", "docs", "dev"})
#: The longest status and the longest name, for the table: of the usual checks, and of those of the contract.
_WIDTHS = (7, len("typing-extensions"))
_CONTRACT_WIDTHS = (len(contracts.CONFIRMED), max(len(name) for name, *_ in contracts.CHECKS))
#: Seconds by which a clock may differ: without a warning, and before deliveries of webhooks are rejected.
CLOSE, APART = 30, 300
#: Bytes that should be free in a destination.
FREE = 10**9
TIMEOUT = (5.0, 15.0)
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        check: The name, such as "key" or "clock".
        status: "ok", "warning" or "failed"; with ``--contract`` "confirmed", "different" or "not seen".
        found: What was found; never the key.
        advice: What to do, or what was expected; ``None`` if there is nothing to do.
    """

    check: str
    status: str
    found: str
    advice: str | None = None


@command()
@click.argument("destination", default=".", shell_complete=completing("dir"))
@option("--contract", is_flag=True, help="Check instead whether the platform behaves as documented.")
@option(
    "--record",
    metavar="FILE",
    type=click.Path(path_type=Path),
    section=OUTPUT,
    help="With --contract: write a report without IDs, names, keys and hosts.",
)
@with_connection
@with_output
def doctor(output: Output, connection: Options, destination: str, contract: bool, record: Path | None) -> int:
    """Check configuration and connectivity.

    Checks versions, API key, base URL, proxy and certificate authorities, access to the project and the space, the
    clock, and whether DESTINATION (default: the current folder) is writable. Each check is ok, a warning or failed,
    with advice. The exit code is 1 if any check failed. The key is never printed.

    Prints a table on a terminal; tab-separated lines of check, status, finding and advice in a pipe; one object per
    line with --json.

    --contract checks instead whether the platform behaves as documented (page "The protocol as we understand it"). It
    only reads, with at most 40 requests, one at a time; one of them has a wrong key. Each assumption is confirmed,
    different or not seen. The exit code is 0 even if there are differences, and 1 if nothing can be checked, for
    example because the key is rejected. Neither the output nor the report contains IDs, names, keys or hosts; the log
    of --debug does.

    \b
    Examples:
      cfplatform doctor
      cfplatform doctor labels
      cfplatform doctor --contract --record report.json
      cfplatform doctor --json | jq -r 'select(.status != "ok") | .advice'
    """
    if contract:
        source = click.get_current_context().get_parameter_source("destination")
        if source is not ParameterSource.DEFAULT:
            raise click.UsageError("--contract takes no DESTINATION.")
        return _check_contract(output, connection, record)
    if record is not None:
        raise click.UsageError("--record requires --contract.")
    done = _printed(output, all_checks(output, connection, destination), _WIDTHS)
    failed = [each.check for each in done if each.status == _FAILED]
    if failed:
        output.error(f"{len(failed)} of {len(done)} checks failed: {', '.join(failed)}.")
        return FAILED
    output.note("No checks failed.")
    return 0


def _printed(output: Output, checks: Iterable[Check], widths: tuple[int, int]) -> list[Check]:
    """Print each check as soon as it is known, and return them."""
    done: list[Check] = []

    def known() -> Iterator[Check]:
        for each in checks:
            done.append(each)
            yield each

    if output.tables:
        from .terminal import print_checks

        print_checks(((each.status, each.check, each.found, each.advice) for each in known()), widths)
        return done
    for each in known():
        if output.as_json:
            output.json_line(each._asdict())
        else:
            output.row((each.check, each.status, each.found, each.advice or ""))
        sys.stdout.flush()
    return done


def _check_contract(output: Output, connection: Options, record: Path | None) -> int:
    found: list[contracts.Finding] = []

    def checks() -> Iterator[Check]:
        for each in contracts.findings(source):
            found.append(each)
            is_different = each.seen.result == contracts.DIFFERENT
            advice = f"Expected: {each.expected}" if is_different else each.advice
            yield Check(each.check, each.seen.result, each.seen.words, advice)

    wrong = {**connection, "api_key": reading.NO_KEY}
    with contextlib.ExitStack() as stack:
        save = stack.enter_context(_new_file(record)) if record is not None else None
        client = stack.enter_context(opened(output, connection, retries=reading.RETRIES, timeout=reading.TIMEOUT))
        refused = stack.enter_context(Client(**wrong, retries=0, timeout=reading.TIMEOUT))
        source = reading.Platform(client, refused)
        _printed(output, checks(), _CONTRACT_WIDTHS)
        if save is not None:
            report = contracts.record(found, version=__version__, base_url=client.base_url, sent=source.sent)
            json.dump(report, save, indent=2)
            save.write("\n")
    counts = Counter(each.seen.result for each in found)
    results = (contracts.CONFIRMED, contracts.DIFFERENT, contracts.NOT_SEEN)
    output.note(f"{', '.join(f'{counts[each]} {each}' for each in results)}; {counted(source.sent, 'requests')}.")
    if record is not None:
        output.note(f"Wrote {str(record)!r}. Read it, then attach it to an issue: it has no IDs, names, keys or hosts.")
    return 0


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """Create a file that was not there; it is removed if the command fails."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise click.UsageError(f"--record: {str(path)!r} exists. Choose a new file.") from None
    except OSError as error:
        raise click.UsageError(f"--record: {str(path)!r} cannot be written: {error.strerror}.") from None
    try:
        with file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def all_checks(output: Output, connection: Options, destination: str) -> Iterator[Check]:
    """Yield every check; the platform gets two requests at most, and only if the settings are valid."""
    yield from _versions()
    address = _base_url(connection["base_url"])
    settings = [_key(connection["api_key"]), address]
    yield from settings
    named = {
        "project": _id(connection["project_id"], "--project-id", "CF_PROJECT_ID", _NO_PROJECT),
        "space": _id(connection["space_id"], "--space-id", "CF_SPACE_ID", _NO_SPACE),
    }
    if address.status != _FAILED:
        url = config.base_url(connection["base_url"])
        settings.append(_proxy(url))
        yield settings[-1]
        yield _authorities(url)
    wrong = [each.check for each in (*settings, *named.values()) if each.status == _FAILED]
    if wrong:
        yield Check("platform", _FAILED, f"not checked, because of {', '.join(wrong)}", "Fix this first.")
        yield from named.values()
    else:
        yield from _platform(output, connection, named)
    yield _destination(destination)


def _versions() -> Iterator[Check]:
    yield Check("python", _OK, f"{platform.python_version()} on {platform.system()}")
    yield Check("cfplatform", _OK, __version__)
    requirements = _requirements()
    if not requirements:
        found = "not checked: cfplatform runs from a folder, without the metadata of an installed package"
        yield Check("extras", _WARNING, found, "Install it: pip install cfplatform")
        return
    for name, wanted in requirements.pop(""):
        version, problem = _version(name), _problem(name, wanted)
        if problem is None:
            yield Check(name, _OK, str(version))
        else:
            yield Check(name, _FAILED, problem, f"Reinstall it: pip install -U '{name}{wanted}'")
    # Extras are optional; a feature that needs one reports it. But one with an old library looks usable, and is not.
    installed, missing, old = [], [], []
    for extra, needed in sorted(requirements.items()):
        problems = [problem for name, wanted in needed if (problem := _problem(name, wanted)) is not None]
        if not problems:
            installed.append(extra)
        elif all(_version(name) for name, _ in needed):
            old.append(f"{extra} ({', '.join(problems)})")
        else:
            missing.append(extra)
    groups = (
        (", ".join(installed) or "none", ""),
        (", ".join(old), "too old: "),
        (", ".join(missing), "not installed: "),
    )
    found = "; ".join(f"{title}{names}" for names, title in groups if names)
    names = ",".join(each.partition(" ")[0] for each in old)
    yield Check(
        "extras", _WARNING if old else _OK, found, f"Run: pip install -U 'cfplatform[{names}]'" if old else None
    )


def _requirements() -> dict[str, list[tuple[str, str]]]:
    """Return name and versions of each requirement by extra, those without one at ``""``; nothing if not installed."""
    try:
        lines = importlib.metadata.requires("cfplatform") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        needed, _, marker = line.partition(";")
        older = re.search(r"""python_version\s*<\s*["']3\.(\d+)["']""", marker)
        if older and sys.version_info[1] >= int(older[1]):
            continue
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        match = re.match(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^)]*)", needed)
        if match and (extra is None or extra[1] not in _OF_DEVELOPERS):
            found.setdefault(extra[1] if extra else "", []).append((match[1], match[2].strip()))
    return found


_CODE = (".py", ".so", ".pyd")
_OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}


def _problem(name: str, wanted: str) -> str | None:
    """Return what is wrong with the installed version of a distribution."""
    version = _version(name)
    if version is None:
        return f"{name} is not installed"
    for compare, limit in re.findall(r"(>=|<=|==|>|<)\s*([\w.]+)", wanted):
        if not _OPERATORS[compare](_numbers(version), _numbers(limit)):
            return f"{name} {version}, not {compare}{limit}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a release without zeros at its end: 2.0 and 2 are the same."""
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, re.sub(r"(?:\.0+)+$", "", match[0]).split("."))) if match else ()


def _version(name: str) -> str | None:
    """Return the version of a distribution, if it is installed; a removed one may leave its metadata."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    # A frozen application has the metadata, but its code in an archive.
    files = () if getattr(sys, "frozen", False) else found.files or ()
    code = next((each for each in files if each.suffix in _CODE), None)
    return found.version if code is None or os.path.exists(str(code.locate())) else None


def _source(value: str | None, option: str, variable: str) -> str:
    if value is None:
        return f"from {variable}"
    context = click.get_current_context()
    name = option.removeprefix("--").replace("-", "_")
    if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        return f"from {option}"
    return f"from profile {context.params.get('profile') or 'default'!r}"


def _key(value: str | None) -> Check:
    source = _source(value, "--api-key", "CF_API_KEY")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            config.api_key(value)
    except ConfigurationError as error:
        return Check("key", _FAILED, message(error), "Set CF_API_KEY to your CloudFactory API key.")
    if caught:
        return Check("key", _WARNING, f"set, {source}, with surrounding white space", "Remove the white space.")
    return Check("key", _OK, f"set, {source}")


def _base_url(value: str | None) -> Check:
    given = value is not None or os.environ.get("CF_PLATFORM_BASE_URL")
    source = _source(value, "--base-url", "CF_PLATFORM_BASE_URL") if given else "the default"
    try:
        return Check("base URL", _OK, f"{config.base_url(value)}, {source}")
    except ConfigurationError as error:
        return Check("base URL", _FAILED, message(error), "Unset CF_PLATFORM_BASE_URL for the production platform.")


_NO_PROJECT = Check("project", _WARNING, "not set", "Set CF_PROJECT_ID, or pass --project-id to each command.")
_NO_SPACE = Check("space", _OK, "not set; only exports and uploads need it")


def _id(value: str | None, option: str, variable: str, unset: Check) -> Check:
    given = config.default_id(value, variable)
    if given is None:
        return unset
    try:
        params.object_id(option, given)
    except InvalidParameterError as error:
        return Check(unset.check, _FAILED, message(error), f"Set {variable} to a valid ID.")
    return Check(unset.check, _OK, f"{given}, {_source(value, option, variable)}")


def _proxy(url: str) -> Check:
    parts = urlsplit(url)
    host = parts.hostname or ""
    known = urllib.request.getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy:
        return Check("proxy", _OK, "none")
    if config.is_loopback(host) or urllib.request.proxy_bypass(host):
        return Check("proxy", _OK, f"not used for {host}")
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_socks = address.scheme.startswith("socks")
        shown = f"{address.scheme}://{address.hostname}:{address.port or (1080 if is_socks else 80)}"
    except ValueError:
        address, shown, is_socks = urlsplit(""), "", False
    if not address.hostname:
        advice = f"Set {parts.scheme.upper()}_PROXY to a URL such as http://proxy.example.com:3128, or unset it."
        return Check("proxy", _FAILED, "the proxy in the environment is not a valid URL", advice)
    if address.scheme not in config.PROXY_SCHEMES:
        advice = f"Use a proxy with one of these schemes: {', '.join(config.PROXY_SCHEMES)}."
        return Check("proxy", _FAILED, f"{shown}, from the environment: the scheme is unknown", advice)
    # A user name and a password in it are never shown.
    if is_socks and importlib.util.find_spec("socks") is None:
        advice = "Install it: pip install 'requests[socks]'. Or use another proxy."
        return Check("proxy", _FAILED, f"{shown}, from the environment: a SOCKS proxy needs PySocks", advice)
    return Check("proxy", _OK, f"{shown}, from the environment")


def _authorities(url: str) -> Check:
    if urlsplit(url).scheme == "http":
        return Check("CA", _OK, "not needed: plain http")
    variable = next((name for name in _BUNDLES if os.environ.get(name)), None)
    if variable is None:
        return Check("CA", _OK, "the default of the requests library")
    path = os.environ[variable]
    try:
        if os.path.isdir(path):
            ssl.create_default_context(capath=path)
        else:
            ssl.create_default_context(cafile=path)
    except OSError as error:
        advice = f"Set {variable} to a file of certificates in PEM format, or unset it."
        return Check("CA", _FAILED, f"{variable} names {path!r}: {error.strerror or error}", advice)
    return Check("CA", _OK, f"{path}, from {variable}")


def _platform(output: Output, connection: Options, named: Mapping[str, Check]) -> Iterator[Check]:
    """Yield what the platform itself shows: one small request for the project, and one for the space."""
    paths = {name: path for name in named if (path := _path(name, connection)) is not None}
    first = next(iter(paths), None)
    secret = secret_of(connection)
    with contextlib.ExitStack() as stack:
        # The warning about the key was reported already.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = stack.enter_context(opened(output, connection, retries=0, timeout=TIMEOUT))
        began = time.time()
        response = _ask(client, paths[first] if first else "/")
        seconds = time.time() - began
        platform = _response(response, seconds, client, first and paths[first])
        # A server may repeat the key.
        yield platform._replace(found=without_secret(secret, platform.found))
        for name, check in named.items():
            if name not in paths:
                found = check
            elif platform.status == _FAILED:
                found = check._replace(status=_WARNING, found=f"{check.found}; not checked", advice=_PLATFORM_FIRST)
            else:
                found = _listed(check, response if name == first else _ask(client, paths[name]))
            yield found._replace(found=without_secret(secret, found.found))
        if not isinstance(response, CFPlatformError):
            yield _clock(response.headers.get("Date"), began + seconds / 2)


_PLATFORM_FIRST = "Fix the platform check first."


def _path(name: str, connection: Options) -> str | None:
    """Return the path that lists a project or a space, if it is set."""
    given = config.default_id(connection[f"{name}_id"], f"CF_{name.upper()}_ID")
    listing = {"project": "batches", "space": "exports"}[name]
    return None if given is None else f"/{name}s/{quote(given, safe='')}/{listing}"


def _ask(client: Client, path: str) -> requests.Response | CFPlatformError:
    try:
        return client.request("GET", path, params={"limit": 1}, check=False)
    except CFPlatformError as error:
        return error


def _listed(check: Check, response: requests.Response | CFPlatformError) -> Check:
    """Return the check of a project or a space, by the response to a listing of it."""
    if isinstance(response, CFPlatformError):
        return check._replace(status=_FAILED, found=f"{check.found}: {reason(response)}", advice=_NOT_REACHED)
    if response.status_code == 200:
        return check._replace(found=f"{check.found}; the key has access")
    detail = server_words(response.text, response.headers.get("content-type", ""))
    found = f"{check.found}: status {response.status_code}{detail and ': '}{detail}"
    advice = f"Set CF_{check.check.upper()}_ID to a {check.check} of the account that the API key belongs to."
    return check._replace(status=_FAILED, found=found, advice=advice)


_NOT_REACHED = "Check the network, the base URL and the proxy; run with --debug for details."


def _response(response: requests.Response | CFPlatformError, seconds: float, client: Client, path: str | None) -> Check:
    """Return the check of the platform; ``path`` is that of a project or a space."""
    if isinstance(response, CFPlatformError):
        return Check("platform", _FAILED, reason(response), _NOT_REACHED)
    status = response.status_code
    detail = server_words(response.text, response.headers.get("content-type", ""))
    found = f"status {status} after {seconds * 1000:.0f} ms"
    bad = f"{found}: {detail}" if detail else found
    is_json = _is_json(response)
    if status == 404 and path is None:
        unchecked = f"{found}; reached, but the key was not checked"
        return Check("platform", _WARNING, unchecked, "Set CF_PROJECT_ID to check it.")
    if path is not None and (status == 404 or not is_json) and _is_below(client, path):
        url = f"{client.base_url}{_USUAL_END}"
        return Check("platform", _FAILED, f"{bad}; the API is at {url}", f"Set CF_PLATFORM_BASE_URL to {url}.")
    if status in (200, 404) and not is_json:
        return Check(
            "platform",
            _FAILED,
            f"{found}, but the response is not JSON",
            "Check the base URL; a proxy may have responded.",
        )
    if status == 200:
        return Check("platform", _OK, f"{found}; the key is valid")
    if status == 404:
        return Check("platform", _OK, f"{found}; it responds")
    if status == 401:
        return Check("platform", _FAILED, bad, "API key rejected. Check CF_API_KEY and the base URL.")
    if status == 403:
        return Check(
            "platform", _FAILED, bad, "The key has no access to this project or space. Check the IDs and the key."
        )
    if status == 429 or status >= 500:
        return Check("platform", _FAILED, bad, "The platform is overloaded or unavailable. Try again later.")
    return Check("platform", _FAILED, bad, "Check the project and the base URL.")


#: What a base URL ends with.
_USUAL_END = "/api/v1"


def _is_below(client: Client, path: str) -> bool:
    """Return whether the base URL lacks its usual end, and the API is there, even if it refuses the key or the IDs."""
    if client.base_url.endswith(_USUAL_END):
        return False
    response = _ask(client, f"{_USUAL_END}{path}")
    if isinstance(response, CFPlatformError):
        return False
    return response.status_code in (200, 401, 403, 404) and _is_json(response)


def _is_json(response: requests.Response) -> bool:
    try:
        response.json()
    except (ValueError, RecursionError):
        return False
    return True


def _clock(date: str | None, now: float) -> Check:
    try:
        difference = now - parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Check("clock", _WARNING, "the platform did not send its time", "Check the clock of this machine.")
    if abs(difference) <= CLOSE:
        return Check("clock", _OK, f"within {CLOSE} s of the platform's")
    found = f"{abs(difference):,.0f} s {'ahead of' if difference > 0 else 'behind'} the platform's"
    advice = "Set the clock of this machine: with a wrong clock, signed URLs and webhooks count as expired."
    return Check("clock", _WARNING if abs(difference) <= APART else _FAILED, found, advice)


def _destination(destination: str) -> Check:
    try:
        if remote.remote_url(destination) is not None:
            return _store()
        return _folder(local.folder_path(destination, "destination"))
    except CFPlatformError as error:
        return Check("destination", _FAILED, message(error), "Choose another folder.")


def _store() -> Check:
    if importlib.util.find_spec("fsspec") is None:
        return Check(
            "destination", _FAILED, "a URL, but fsspec is not installed", "Install it: pip install 'cfplatform[fsspec]'"
        )
    return Check("destination", _WARNING, "a URL; writing was not tested", "Run a download to test it.")


def _folder(wanted: Path) -> Check:
    """Write into a folder, or into the one in which it would be created, and leave nothing."""
    wanted = wanted.absolute()
    folder = next(each for each in (wanted, *wanted.parents) if os.path.exists(each))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        found = f"{str(folder)!r} cannot be written: {error.strerror or error}"
        return Check("destination", _FAILED, found, "Choose a writable folder.")
    able = "can be written" if folder == wanted else f"can be created in {str(folder)!r}"
    found = f"{str(wanted)!r} {able}, {amount(free)} free"
    if free < FREE:
        return Check("destination", _WARNING, found, "Free some space, or choose another folder.")
    return Check("destination", _OK, found)
