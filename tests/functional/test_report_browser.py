"""Reports in a real browser."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cfplatform.report import write_report
from tests.chromium import chromium, program

pytestmark = pytest.mark.skipif(
    program() is None, reason="no Chromium is installed; on Debian: apt-get install chromium"
)
ATTACK = "<script>alert(1)</script>"
#: Annotations of a separate class in a separate batch, with a finding; and an image without annotations.
ODD = {
    "images": [{"id": 1, "width": 40, "height": 30, "file_name": "</script><img src=x onerror=alert(2)>"}],
    "categories": [{"id": 1, "name": ATTACK}, {"id": 2, "name": "\u05e9\u05dc\u05d5\u05dd\"'"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [90, 90, 9, 9], "area": 81},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9], "area": 81},
    ],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from cfplatform.sandbox import Sandbox

    folder = tmp_path_factory.mktemp("browser") / "labels"
    with Sandbox(items=60, batches=3) as sandbox, sandbox.client() as client:
        client.download_project(destination=folder, assets=True).raise_for_failures()
    # A name that no folder can have comes with the labels only.
    (folder / "~ <b>odd").mkdir()
    (folder / "~ <b>odd" / "<i>1.json").write_text(json.dumps(ODD))
    (folder / "~ <b>odd" / "empty.json").write_text(json.dumps({**ODD, "annotations": []}))
    return write_report(folder, title=ATTACK).path


@pytest.fixture(scope="module")
def running():
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(running, page):
    """The page, newly opened; checks that no foreign code runs or loads and that there are no errors."""
    running.events.clear()
    running.open(page.as_uri())
    yield running
    assert running.reported("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded") == []
    asked = [event["request"]["url"] for event in running.reported("Network.requestWillBeSent")]
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [page.as_uri()]


def shown(browser):
    """The ids of the cards."""
    return browser.evaluate("[...document.querySelectorAll('#cards .name')].map((each) => each.textContent)")


def said(browser):
    return browser.evaluate("document.getElementById('shown').textContent")


def choose(browser, name, text):
    """Choose an entry of a list by its name."""
    browser.evaluate(
        f"(() => {{ const list = document.querySelector('select[name={name}]'); "
        f"list.value = [...list.options].find((each) => each.text === {json.dumps(text)}).value; "
        "list.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def ids(page, condition):
    """The IDs of all annotations that match a condition, in the order of the page."""
    paths = sorted(page.parent.glob("*/*.json"), key=lambda path: (path.parent.name, path.stem))
    return [path.stem for path in paths if condition(path, json.loads(path.read_bytes()))]


def has(name):
    def test(_, document):
        ids = {category["id"] for category in document["categories"] if category["name"] == name}
        return any(each["category_id"] in ids for each in document["annotations"])

    return test


def test_pages_are_turned(browser, page):
    everything = ids(page, lambda *_: True)
    assert (shown(browser), said(browser)) == (everything[:24], "62 of 62 samples, page 1 of 3")
    browser.click("#later")
    assert shown(browser) == everything[24:48]
    browser.click("#later")
    assert shown(browser) == everything[48:]
    assert browser.evaluate("document.getElementById('later').disabled")
    browser.click("#earlier")
    assert shown(browser) == everything[24:48]
    browser.evaluate("document.getElementById('page').select()")
    browser.click("#page")
    browser.evaluate("document.getElementById('page').select()")
    browser.type("3")
    browser.press("Enter")
    assert shown(browser) == everything[48:]


def test_filters_one_by_one_and_together(browser, page):
    choose(browser, "class", "star")
    stars = ids(page, has("star"))
    assert said(browser).startswith(f"{len(stars)} of 62 samples")
    assert shown(browser) == stars[:24]
    batch = next(path.name for path in sorted(page.parent.iterdir()) if path.is_dir() and path.name[0] != ".")
    choose(browser, "batch", batch)
    both = ids(page, lambda path, document: path.parent.name == batch and has("star")(path, document))
    assert shown(browser) == both
    browser.click("#filters [type=search]")
    browser.type(f"ELLIPSE {both[0][:8]}")
    assert shown(browser) in ([both[0]], [])
    browser.click("#filters [type=reset]")
    browser.until("document.getElementById('shown').textContent.startsWith('62 of 62')")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("labels", "without annotations", ["empty"]),
        ("finding", "with findings", ["<i>1"]),
        ("finding", "box-outside", ["<i>1"]),
        ("class", ATTACK, ["<i>1"]),
        ("class", "\u05e9\u05dc\u05d5\u05dd\"'", ["<i>1"]),
        ("batch", "~ <b>odd", ["<i>1", "empty"]),
    ],
)
def test_what_is_odd_is_found(browser, name, text, expected):
    choose(browser, name, text)
    assert shown(browser) == expected
    for other in ("labels", "finding"):
        if other != name:
            choose(browser, other, "all")
    assert shown(browser) == expected


def test_words_find_names_that_look_like_markup(browser):
    browser.click("#filters [type=search]")
    browser.type("<script>")
    assert shown(browser) == ["<i>1"]
    browser.type(" no such word")
    assert (shown(browser), said(browser)) == ([], "0 of 62 samples")


def test_hostile_names_are_shown_as_they_are(browser):
    assert browser.evaluate("document.querySelector('h1').textContent") == ATTACK
    assert ATTACK in browser.evaluate("document.getElementById('classes').textContent")
    assert browser.evaluate("document.querySelectorAll('script:not([type])').length") == 1
    choose(browser, "batch", "~ <b>odd")
    browser.click("#cards button")
    facts = browser.evaluate("document.getElementById('larger-facts').textContent")
    assert "</script><img src=x onerror=alert(2)>" in facts
    assert ATTACK in facts


def test_images_are_shown_and_described(browser):
    pictures = browser.evaluate(
        "Promise.all([...document.querySelectorAll('#cards img')].map(async (each) => "
        "{ await each.decode(); return [each.naturalWidth, each.alt]; }))"
    )
    assert len(pictures) == 24
    assert all(width == 320 and alt.startswith("Image with ") for width, alt in pictures)


def test_the_larger_view_by_keyboard(browser, page):
    everything = ids(page, lambda *_: True)
    browser.evaluate("document.querySelector('#filters [type=reset]').focus()")
    browser.press("Tab")
    browser.press("Tab")
    focused = "document.activeElement.querySelector('.name')?.textContent"
    assert browser.evaluate(focused) == everything[1]
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.evaluate("document.getElementById('larger').open")
    title = "document.getElementById('larger-title').textContent"
    assert browser.evaluate(title) == everything[1]
    browser.press("ArrowRight")
    assert browser.evaluate(title) == everything[2]
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.evaluate(title) == everything[0]
    assert browser.evaluate("document.getElementById('larger-image').naturalWidth") == 320
    for _ in range(8):
        browser.press("Tab")
        assert browser.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    browser.press("Escape")
    browser.until("!document.getElementById('larger').open")
    assert browser.evaluate(focused) == everything[1]


@pytest.mark.parametrize("larger", [False, True])
def test_everything_that_can_be_used_has_a_name(browser, larger):
    if larger:
        browser.click("#cards button")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    found = [(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node and not node["ignored"]]
    roles = {role for role, _ in found}
    expected = (
        {"dialog", "button", "image"} if larger else {"main", "navigation", "search", "link", "combobox", "status"}
    )
    assert expected <= roles
    used = {
        "button",
        "link",
        "combobox",
        "searchbox",
        "spinbutton",
        "image",
        "region",
        "dialog",
        "navigation",
        "search",
    }
    assert [role for role, name in found if role in used and not name.strip()] == []


def test_the_larger_view_by_mouse(browser):
    browser.click("#cards li:nth-child(3) button")
    assert browser.evaluate("document.getElementById('larger').open")
    browser.click("#after")
    browser.click("#close")
    assert not browser.evaluate("document.getElementById('larger').open")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window_and_colours_follow_the_system(browser, width, dark):
    browser.view(width=width, height=844, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    browser.click("#cards button")
    assert browser.evaluate("document.getElementById('larger').getBoundingClientRect().width") < width
    ground, ink, bar = browser.evaluate(
        "[[document.body, 'backgroundColor'], [document.body, 'color'], [document.querySelector('.bar rect'), 'fill']]"
        ".map(([of, name]) => getComputedStyle(of)[name].match(/\\d+/g).map(Number))"
    )
    assert (sum(ground) < 128) == dark
    assert contrast(ground, ink) >= 7
    assert contrast(ground, bar) >= 3


TOP = "[...document.querySelectorAll('#strip li')].map((each) => each.getBoundingClientRect())"


@pytest.mark.parametrize(("width", "height", "visible"), [(1440, 900, 6), (390, 844, 2)])
def test_images_and_totals_are_above_the_fold(browser, width, height, visible):
    browser.view(width=width, height=height)
    boxes = browser.evaluate(f"{TOP}.map((box) => [box.left, box.right, box.bottom])")
    totals = browser.evaluate("document.querySelector('.totals').getBoundingClientRect().top")
    assert len(boxes) == 6
    assert sum(left < width for left, *_ in boxes) == visible
    assert max(bottom for *_, bottom in boxes) < totals < height - 100
    assert (
        browser.evaluate(
            "Promise.all([...document.querySelectorAll('#strip img')].map(async (each) => "
            "{ await each.decode(); return each.naturalWidth; }))"
        )
        == [320] * 6
    )
    # The last image is reached by the keyboard, and comes into view.
    browser.evaluate("document.querySelector('#strip li:nth-child(5) button').focus()")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.closest('#strip li').matches(':last-child')")
    browser.until(f"{TOP}.at(-1).left < {width - 50}")


def test_the_larger_view_of_the_images_at_the_top(browser):
    strip = browser.evaluate("index.strip")
    names = [browser.evaluate(f"index.samples[{number}][0]") for number in strip]
    title = "document.getElementById('larger-title').textContent"
    # They can be opened whatever the gallery shows.
    choose(browser, "batch", "~ <b>odd")
    browser.evaluate("document.querySelector('#strip li:nth-child(5) button').focus()")
    browser.press("Enter")
    assert browser.evaluate(title) == names[4]
    browser.press("ArrowRight")
    assert browser.evaluate(title) == names[5]
    assert browser.evaluate("document.getElementById('after').disabled")
    assert browser.evaluate("document.getElementById('larger-image').naturalWidth") == 320
    browser.press("Escape")
    assert browser.evaluate("document.activeElement.closest('#strip li').matches(':nth-child(5)')")


def test_images_that_arrive_late_are_shown_when_they_are_there(running, page):
    head, mark, tail = page.read_bytes().partition(b'<script type="text/plain"')
    arrived = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(head)
            arrived.wait(30)
            self.wfile.write(mark + tail)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.call("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/")
        running.until("location.protocol === 'http:' && document.querySelectorAll('#cards img').length === 24")
        strip = running.evaluate("index.strip")
        with_source = "[...document.querySelectorAll('#cards img[src]')].map((each) => Number(each.dataset.number))"
        assert running.evaluate(with_source) == sorted(number for number in strip if number < 24)
        late = next(number for number in range(24) if number not in strip)
        running.evaluate(f"document.querySelector('#cards button[data-number=\"{late}\"]').click()")
        assert running.evaluate("document.getElementById('larger-image').hasAttribute('src')") is False
        arrived.set()
        running.until("document.readyState === 'complete'")
        assert running.evaluate(with_source) == list(range(24))
        running.until("document.getElementById('larger-image').naturalWidth === 320")
        server.shutdown()


def test_the_images_at_the_top_need_no_script(running, page):
    running.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        running.open(page.as_uri())
        widths = "[...document.querySelectorAll('#strip img')].map((each) => each.complete && each.naturalWidth)"
        assert running.evaluate(widths) == [320] * 6
        assert running.evaluate("document.getElementById('cards').children.length") == 0
    finally:
        running.call("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.stress
def test_ten_thousand_images_are_there_at_once(running, tmp_path):
    for number in range(10_000):
        path = tmp_path / f"batch {number % 20}" / f"{number}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(ODD if number % 2 else {**ODD, "annotations": []}))
    written = write_report(tmp_path)
    assert (written.samples, written.size < 60_000_000) == (10_000, True)
    running.open(written.path.as_uri())
    took = running.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert took < 10_000
    running.evaluate(
        "(() => { const text = document.querySelector('[type=search]'); text.value = '\u05e9'; "
        "window.began = performance.now(); text.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert said(running).startswith("5,000 of 10,000 samples")
    assert running.evaluate("performance.now() - window.began") < 2_000


def contrast(one, other):
    def luminance(colour):
        parts = [value / 255 for value in colour[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_paper_shows_images_and_no_controls(browser):
    browser.view(width=794, height=1123, media="print")
    shown_on_paper = "getComputedStyle(document.querySelector({!r})).display !== 'none'"
    assert browser.evaluate(shown_on_paper.format("#cards img"))
    assert not browser.evaluate(shown_on_paper.format("#filters"))
    assert not browser.evaluate(shown_on_paper.format("#pages"))
