"""Profiles: connection settings in a file, used where neither an option nor a variable sets them."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from .. import config

#: The variable that overrides each setting of a profile.
VARIABLES = {
    "api_key": "CF_API_KEY",
    "base_url": "CF_PLATFORM_BASE_URL",
    "project_id": "CF_PROJECT_ID",
    "space_id": "CF_SPACE_ID",
}
#: The profile that is used if none is named.
DEFAULT = "default"
#: Seconds that a command may take to print the key; people may have to unlock something first.
COMMAND_TIMEOUT = 120.0

_KEY_SOURCES = ("api_key", "api_key_command", "api_key_env")
_SETTINGS = (*_KEY_SOURCES, "base_url", "project_id", "space_id")


class _File(NamedTuple):
    """The file as it is on disk."""

    path: Path
    tables: dict[str, Any]
    status: os.stat_result


def path() -> Path:
    """Return the path of the file."""
    if sys.platform == "win32":
        folder = os.environ.get("APPDATA", "")
        return (Path(folder) if folder else Path.home() / "AppData" / "Roaming") / "cfplatform" / "config.toml"
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore a relative path.
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".config") / "cfplatform" / "config.toml"


def names() -> list[str]:
    """Return the names of all profiles."""
    file = _read()
    return [] if file is None else [*([DEFAULT] if DEFAULT in file.tables else []), *file.tables.get("profiles", {})]


def completed(connection: Mapping[str, str | None], name: str | None, note: Callable[[str], None]) -> dict[str, Any]:
    """Return connection settings with those of a profile where neither an option nor a variable sets them.

    Args:
        connection: The options.
        name: The profile; the default one if omitted, which need not exist.
        note: Called with a sentence for each variable that overrides a profile that was named.

    Raises:
        UsageError: If the profile does not exist or is not valid, or if it does not provide its key.
    """
    found: dict[str, Any] = dict(connection)
    file = _read()
    profile = None if file is None else _table(file, name or DEFAULT)
    if file is None or profile is None:
        if name:
            raise click.UsageError(f"There is no profile {name!r} in {path()}.{_near(name, names())}")
        return found
    title = f"{file.path}: profile {name or DEFAULT!r}"
    _check(title, profile)
    for setting in connection:
        keys = [each for each in (_KEY_SOURCES if setting == "api_key" else [setting]) if each in profile]
        if connection[setting] is not None or not keys:
            continue
        variable = VARIABLES[setting]
        # The library reports a blank key.
        if variable in os.environ if setting == "api_key" else os.environ.get(variable, "").strip():
            if name:
                note(f"{variable} overrides {keys[0]} of profile {name!r}.")
        elif setting == "api_key":
            found[setting] = _key(title, file, keys[0], profile[keys[0]])
        else:
            found[setting] = profile[setting]
    return found


def _read() -> _File | None:
    """Read the file, if it exists."""
    where = path()
    try:
        with where.open("rb") as file:
            content, status = file.read(), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.UsageError(f"{where} cannot be read: {error.strerror}.") from None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib  # pyright: ignore[reportMissingImports] - only on Python 3.10
        except ImportError:
            raise click.UsageError(f"{where} needs tomli: pip install 'cfplatform[cli]'") from None
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise click.UsageError(f"{where} is not valid TOML: {reason}.") from None
    for each in tables:
        if each not in (DEFAULT, "profiles"):
            raise click.UsageError(f"{where}: {each!r} is outside a profile. Put it below [default].")
    profiles = tables.get("profiles", {})
    if not isinstance(profiles, dict):
        raise click.UsageError(f"{where}: write a profile as [profiles.NAME].")
    return _File(where, tables, status)


def _table(file: _File, name: str) -> Any:
    return file.tables.get(DEFAULT) if name == DEFAULT else file.tables.get("profiles", {}).get(name)


def _check(title: str, profile: Any) -> None:
    if not isinstance(profile, dict):
        raise click.UsageError(f"{title} is not a table of settings.")
    for each, value in profile.items():
        if each not in _SETTINGS:
            raise click.UsageError(f"{title} has an unknown setting {each!r}.{_near(each, _SETTINGS)}")
        if each == "api_key_command":
            if not (isinstance(value, list) and value and all(isinstance(word, str) for word in value)):
                raise click.UsageError(f'{title}: {each} must be a list of words, such as ["pass", "cloudfactory"].')
        elif not isinstance(value, str) or not value.strip():
            raise click.UsageError(f"{title}: {each} must be a string.")
    sources = [each for each in _KEY_SOURCES if each in profile]
    if len(sources) > 1:
        raise click.UsageError(f"{title} has {' and '.join(sources)}. Keep one of them.")


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _key(title: str, file: _File, source: str, value: Any) -> str:
    """Return the key of a profile. No message ever shows it."""
    if source == "api_key_env":
        if value not in os.environ:
            raise click.UsageError(f"{title} takes the key from {value}, which is not set.")
        return config.Secret(os.environ[value])
    if source == "api_key_command":
        _require(file, 0o022, f"{title} has a command, and others can change the file. Run: chmod go-w {file.path}")
        return config.Secret(_printed(title, value))
    advice = f"Run: chmod 600 {file.path}, or use api_key_command or api_key_env."
    _require(file, 0o077, f"{title} has a key, and others can read the file. {advice}")
    return config.Secret(value)


def _require(file: _File, forbidden: int, problem: str) -> None:
    """Refuse a file that is not ours or has permissions for others; Windows keeps them somewhere else."""
    if sys.platform != "win32" and (file.status.st_mode & forbidden or file.status.st_uid not in (0, os.getuid())):
        raise click.UsageError(problem)


def _printed(title: str, command: list[str]) -> str:
    """Run a command without a shell, and return the line that it prints."""
    shown = f"{title}: api_key_command {command[0]!r}"
    try:
        # Our stdin may be data, so the command does not get it.
        done = subprocess.run(  # noqa: S603 - the command of the user
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_TIMEOUT, check=False
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.UsageError(f"{shown} could not be run: {reason}.") from None
    except subprocess.TimeoutExpired:
        raise click.UsageError(f"{shown} did not end within {COMMAND_TIMEOUT:g} s.") from None
    printed = config.Secret(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode or not printed:
        result = f"failed with exit code {done.returncode}" if done.returncode else "printed nothing"
        raise click.UsageError(f"{shown} {result}.")
    return printed
