from __future__ import annotations

import math
import traceback

import pytest

from cfplatform import ConfigurationError, config

KEY = "cf-0123456789-SECRET"


def test_the_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("CF_API_KEY", "from-environment")
    monkeypatch.setenv("CF_PLATFORM_BASE_URL", "https://environment.example/api/v1")
    assert config.api_key(KEY) == KEY
    assert config.base_url("https://argument.example/") == "https://argument.example"
    assert config.default_id("argument", "CF_PROJECT_ID") == "argument"


def test_the_environment_is_read_where_there_is_no_argument(monkeypatch):
    monkeypatch.setenv("CF_API_KEY", KEY)
    monkeypatch.setenv("CF_PLATFORM_BASE_URL", "https://environment.example/api/v1//")
    monkeypatch.setenv("CF_PROJECT_ID", " project ")
    assert config.api_key(None) == KEY
    assert config.base_url(None) == "https://environment.example/api/v1"
    assert config.default_id(None, "CF_PROJECT_ID") == "project"


def test_defaults_apply_where_nothing_is_set(monkeypatch):
    assert config.base_url(None) == "https://api.ai.cloudfactory.app/api/v1"
    assert config.default_id(None, "CF_SPACE_ID") is None
    monkeypatch.setenv("CF_PLATFORM_BASE_URL", "")
    monkeypatch.setenv("CF_SPACE_ID", "  ")
    assert config.base_url(None) == config.DEFAULT_BASE_URL
    assert config.default_id(None, "CF_SPACE_ID") is None


def test_a_missing_key_says_where_to_put_it():
    with pytest.raises(ConfigurationError, match=r"Pass api_key=\.\.\. or set CF_API_KEY"):
        config.api_key(None)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "blank"),
        (" \t\n", "blank"),
        (f"{KEY}\n{KEY}", "not a valid API key"),
        (f"{KEY}\r\nX-Other: 1", "not a valid API key"),
        (f"{KEY} {KEY}", "not a valid API key"),
        (f"{KEY}\0", "not a valid API key"),
        (f"{KEY}\x7f", "not a valid API key"),
        (f"\N{RIGHT SINGLE QUOTATION MARK}{KEY}", "not a valid API key"),
        (f"\ufeff{KEY}", "not a valid API key"),
        (f"{KEY}\N{NO-BREAK SPACE}", "not a valid API key"),
        (KEY * 100, "longer than 512"),
        (KEY.encode(), "must be a string, not bytes"),
        (5, "must be a string, not int"),
    ],
)
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_bad_key_is_refused_and_never_shown(monkeypatch, key, says, by_environment):
    if by_environment:
        if not isinstance(key, str) or "\0" in key:
            return
        monkeypatch.setenv("CF_API_KEY", key)
    with pytest.raises(ConfigurationError, match=says) as caught:
        config.api_key(None if by_environment else key)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.args)
    assert "SECRET" not in shown
    assert str(caught.value).startswith("CF_API_KEY" if by_environment else "api_key")


@pytest.mark.parametrize("key", [f"{KEY}\n", f"  {KEY}", f"{KEY}\r\n"])
def test_white_space_around_a_key_is_removed_with_a_warning_that_does_not_show_it(key):
    with pytest.warns(UserWarning, match="leading or trailing whitespace") as caught:
        assert config.api_key(key) == KEY
    assert "SECRET" not in str(caught[0].message)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must start with https"),
        ("api.ai.cloudfactory.app/api/v1", "must start with https"),
        ("//api.ai.cloudfactory.app", "must start with https"),
        ("ftp://api.ai.cloudfactory.app", "must start with https"),
        ("file:///etc/passwd", "must start with https"),
        ("https://", "must start with https"),
        ("https:///api", "must start with https"),
        ("https://user:secret@api.example/v1", "user name or password"),
        ("https://user@api.example/v1", "user name or password"),
        ("https://:@api.example/v1", "user name or password"),
        ("http://api.ai.cloudfactory.app/api/v1", "unencrypted"),
        ("http://127.0.0.1.evil.example/", "unencrypted"),
        ("http://localhost.evil.example/", "unencrypted"),
        ("http://10.0.0.1/", "unencrypted"),
        ("https://api.example/v1?x=1", "not contain a query"),
        ("https://api.example/v1?", "not contain a query"),
        ("https://api.example/v1#", "not contain a query"),
        ("https://api.example/v1#top", "not contain a query"),
        ("https://api.example/a b", "whitespace"),
        ("https://api.example/a\nb", "whitespace"),
        ("https://api.example\\@evil.example/", "user name or password"),
        ("https://api.example\\evil", "backslash"),
        ("https://[::1", "is not a URL"),
        ("https://api.example:99999", "is not a URL"),
        ("https://api.example:port", "is not a URL"),
        (b"https://api.example", "must be a string"),
        (5, "must be a string"),
    ],
)
def test_a_bad_base_url_is_refused(url, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        config.base_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.example", "https://api.example"),
        (" https://api.example/api/v1/ ", "https://api.example/api/v1"),
        ("HTTPS://api.example/v1", "HTTPS://api.example/v1"),
        ("http://localhost:8080/api/v1", "http://localhost:8080/api/v1"),
        ("http://localhost.:8080", "http://localhost.:8080"),
        ("http://cf.localhost", "http://cf.localhost"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_a_good_base_url_is_kept_without_its_last_slash(url, kept):
    assert config.base_url(url) == kept


def test_plain_http_to_another_host_must_be_asked_for():
    assert config.base_url("http://api.example", allow_insecure_http=True) == "http://api.example"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused, not bound
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "localhost",
        "localhost.",
        "x.localhost",
        "169.254.169.254.",
        # Other spellings that the system connects to just the same.
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "2852039166",
        "0xa9fea9fe",
        "0",
    ],
)
def test_no_public_storage_is_at_a_private_address(host):
    assert config.is_private(host)


@pytest.mark.parametrize(
    "host", ["storage.example", "8.8.8.8", "2001:4860:4860::8888", "10.example", "1.2.3.4.example"]
)
def test_names_and_public_addresses_are_not_private(host):
    assert not config.is_private(host)
    assert not config.is_loopback(host)


@pytest.mark.parametrize("value", ["", " ", "0", "false", "False", "FALSE", "no", "No", "off", "OFF"])
def test_a_variable_turns_an_option_off_in_any_case(monkeypatch, value):
    monkeypatch.setenv("CF_ALLOW_PRIVATE_STORAGE", value)
    assert config.flag(None, "CF_ALLOW_PRIVATE_STORAGE") is False
    assert config.flag(True, "CF_ALLOW_PRIVATE_STORAGE") is True


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "on"])
def test_a_variable_turns_an_option_on(monkeypatch, value):
    monkeypatch.setenv("CF_ALLOW_PRIVATE_STORAGE", value)
    assert config.flag(None, "CF_ALLOW_PRIVATE_STORAGE") is True
    assert config.flag(False, "CF_ALLOW_PRIVATE_STORAGE") is False


@pytest.mark.parametrize(
    ("given", "pair"), [(5, (5.0, 5.0)), (0.25, (0.25, 0.25)), ((3, 7.5), (3.0, 7.5)), (86_400, (86_400.0, 86_400.0))]
)
def test_a_timeout_is_one_number_or_two(given, pair):
    assert config.timeout(given) == pair


@pytest.mark.parametrize(
    "value",
    [0, -1, None, True, "5", math.nan, math.inf, 1e300, 10**400, (), (5,), (5, None), (5, 0), (1, 2, 3), [5, 5], {}],
)
def test_a_timeout_that_no_socket_takes_is_refused(value):
    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        config.timeout(value)


@pytest.mark.parametrize("value", [0, -1, 257, 10**6, True, "8", 8.0, None, pytest.param(10**5000, id="huge")])
def test_a_wrong_number_of_workers_is_refused(value):
    with pytest.raises(ConfigurationError, match="max_workers must be an integer from 1 to 256"):
        config.max_workers(value)


@pytest.mark.parametrize("value", [1, 32, 256])
def test_a_number_of_workers_is_kept(value):
    assert config.max_workers(value) == value
