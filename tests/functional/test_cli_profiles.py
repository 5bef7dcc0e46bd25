"""Commands with profiles of the configuration file."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.functional.shell import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions and the folder are those of POSIX")

NOTHING = dict.fromkeys(("CF_API_KEY", "CF_PROJECT_ID", "CF_SPACE_ID", "CF_PLATFORM_BASE_URL"))


@pytest.fixture
def sandbox(make_sandbox):
    return make_sandbox(items=7)


@pytest.fixture
def use(sandbox, tmp_path):
    """Write the file, and run a command with nothing in its environment; ``{settings}`` are those of the sandbox."""
    settings = (
        f'base_url = "{sandbox.base_url}"\nproject_id = "{sandbox.project_id}"\nspace_id = "{sandbox.space_id}"\n'
    )
    file = tmp_path / "cfplatform" / "config.toml"
    file.parent.mkdir()

    def command(text, *arguments, mode=0o600, **changes):
        text = text.replace("{settings}", settings).replace("{key}", sandbox.api_key)
        file.write_text(text.replace("{python}", json.dumps(sys.executable)), encoding="utf-8")
        file.chmod(mode)
        return run(*(arguments or ["count"]), **{**NOTHING, "XDG_CONFIG_HOME": str(tmp_path), **changes})

    command.file = file
    return command


def test_the_default_profile_needs_no_name(use, sandbox):
    done = use('[default]\n{settings}api_key_env = "MINE"\n', MINE=sandbox.api_key)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_profile_by_name(use, way):
    text = '[profiles.staging]\n{settings}api_key_command = [{python}, "-c", "print(\'{key}\')"]\n'
    named = {"CF_PROFILE": "staging"} if way == "variable" else {}
    done = use(text, "count", *([] if named else ["--profile", "staging"]), **named)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    # Without its name it is not used.
    assert "No API key." in use(text).stderr


def test_an_option_goes_before_a_variable_and_both_before_the_profile(use, sandbox):
    wrong = '[profiles.a]\n{settings}api_key = "of-the-profile"\n'
    assert "API key rejected" in use(wrong, "count", "--profile", "a").stderr
    done = use(wrong, "count", "--profile", "a", CF_API_KEY=sandbox.api_key)
    assert (done.stdout, done.stderr) == ("7\n", "CF_API_KEY overrides api_key of profile 'a'.\n")
    done = use(wrong, "count", "--profile", "a", "--api-key", sandbox.api_key, CF_API_KEY="of-the-environment")
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_a_blank_variable_is_not_set_except_for_the_key(use, sandbox):
    text = '[profiles.a]\n{settings}api_key = "{key}"\n'
    done = use(text, "count", "--profile", "a", CF_PROJECT_ID=" ")
    assert (done.stdout, done.stderr) == ("7\n", "")
    done = use(text, "count", "--profile", "a", CF_API_KEY="")
    assert (done.returncode, "CF_API_KEY is blank." in done.stderr) == (2, True)


def test_profiles_inherit_nothing_from_each_other(use, sandbox):
    done = use('[default]\napi_key = "{key}"\n[profiles.a]\n{settings}', "count", "--profile", "a")
    assert (done.returncode, done.stderr) == (2, "Error: No API key. Pass --api-key or set CF_API_KEY.\n")
    assert sandbox.requests == []


def test_a_key_in_a_file_that_others_can_read_is_refused(use, sandbox):
    text = '[default]\n{settings}api_key = "{key}"\n'
    assert use(text).stdout == "7\n"
    done = use(text, mode=0o640)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        f"Error: {use.file}: profile 'default' has a key, and others can read the file. "
        f"Run: chmod 600 {use.file}, or use api_key_command or api_key_env."
    )
    assert sandbox.api_key not in done.stderr
    # A command may be read, but not changed.
    command = '[default]\n{settings}api_key_command = [{python}, "-c", "print(\'{key}\')"]\n'
    assert use(command, mode=0o644).stdout == "7\n"
    assert f"Run: chmod go-w {use.file}" in use(command, mode=0o664).stderr


def test_the_command_is_run_without_a_shell_and_not_with_our_stdin(use, tmp_path):
    code = "import sys; open('seen', 'w').write(repr((sys.argv[1:], sys.stdin.read()))); print('{key}')"
    text = f'[default]\n{{settings}}api_key_command = [{{python}}, "-c", "{code}", "$HOME; id"]\n'
    done = use(
        text,
        "count",
        "--work-item-ids",
        "-",
        "--allow-empty",
        cwd=tmp_path,
        stdin="c2fe4a5d-ae6e-4005-8845-d10c59218302\n",
    )
    assert (done.returncode, done.stdout) == (0, "0\n")
    assert (tmp_path / "seen").read_text() == "(['$HOME; id'], '')"


def test_the_key_is_asked_for_only_if_it_is_needed(use, sandbox, tmp_path):
    text = "[default]\n{settings}api_key_command = [{python}, \"-c\", \"open('seen', 'w'); print(1)\"]\n"
    assert use(text, cwd=tmp_path, CF_API_KEY=sandbox.api_key).stdout == "7\n"
    body = tmp_path / "body"
    body.write_bytes(b"{}")
    (tmp_path / "headers").write_text("A: b\n")
    use(text, "webhook", "verify", "--body", "body", "--headers", "headers", cwd=tmp_path)
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (
            "[profiles.staging]",
            ["--profile", "stagin"],
            "There is no profile 'stagin' in {file}. Did you mean 'staging'?",
        ),
        ("[default]\nx = ", [], "{file} is not valid TOML: "),
        ('base_url = "x"', [], "{file}: 'base_url' is outside a profile. Put it below [default]."),
        ("profiles = 7", [], "{file}: write a profile as [profiles.NAME]."),
        ("default = 7", [], "{file}: profile 'default' is not a table of settings."),
        (
            '[default]\napi_key_comand = "x"',
            [],
            "profile 'default' has an unknown setting 'api_key_comand'. Did you mean 'api_key_command'?",
        ),
        ("[default]\nproject_id = 7", [], "profile 'default': project_id must be a string."),
        ('[default]\napi_key_command = "pass x"', [], 'must be a list of words, such as ["pass", "cloudfactory"].'),
        ('[default]\napi_key = "a"\napi_key_env = "b"', [], "has api_key and api_key_env. Keep one of them."),
        ('[default]\napi_key_env = "NOT_SET"', [], "takes the key from NOT_SET, which is not set."),
        (
            '[default]\napi_key_command = ["not-there-x"]',
            [],
            "'not-there-x' could not be run: No such file or directory.",
        ),
        ('[default]\napi_key_command = ["false"]', [], "api_key_command 'false' failed with exit code 1."),
        ('[default]\napi_key_command = ["true"]', [], "api_key_command 'true' printed nothing."),
        ('[default]\napi_key = "a b"', [], "is not a valid API key"),
    ],
)
def test_mistakes_in_the_file(use, text, arguments, sentence):
    done = use(text, "count", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence.replace("{file}", str(use.file)) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_without_a_file(sandbox, tmp_path):
    done = run("count", "--profile", "x", sandbox=sandbox, XDG_CONFIG_HOME=str(tmp_path))
    path = os.path.join(tmp_path, "cfplatform", "config.toml")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"Error: There is no profile 'x' in {path}.")
