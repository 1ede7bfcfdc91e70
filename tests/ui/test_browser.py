"""The local web application in a real browser: figures, brushing, keys, live runs and hostile names."""

from __future__ import annotations

import json
import shutil
from urllib.parse import quote

import pytest

from archgym.agents import make_agent, search
from archgym.datasets.shards import ShardWriter, read_shard
from archgym.problem import make_problem
from tests.ui.conftest import TOKEN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
HOSTILE = '<img src=x onerror="window.pwned=1"><a href="https://evil.example/">b</a>&lt;i&gt;%{y}</script>'


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        made = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def open_page(browser):
    """Open an address and, at the end, find no console error and no request that left the machine."""
    pages, errors, requests = [], [], []

    def open_(server, query="", width=1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append((server.url, request.url)))
        page.goto(f"{server.url}?token={TOKEN}{query}")
        ready(page)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert errors == []
    assert [url for own, url in requests if not url.startswith((own, "data:", "blob:"))] == []


def ready(page):
    page.wait_for_selector("html[data-ready=true]", timeout=120_000)


@pytest.mark.parametrize("width", [1280, 400])
def test_the_list_and_every_item_fit_the_screen(server, open_page, width):
    page = open_page(server, width=width)
    assert page.locator("#list tbody tr").count() == 5
    for key in ("deep", "study", "merged", "entries/ga"):
        page = open_page(server, f"&at={key}", width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        assert page.locator(".wrong").count() == 0, page.locator(".wrong").all_inner_texts()
        assert page.locator(".js-plotly-plot").count() >= 4
        assert "token" not in page.url
        page.wait_for_selector("html[data-told=true]")
        assert "found" in page.inner_text("#text-found")


def test_brushing_filters_designs_and_the_address_keeps_it(server, open_page):
    page = open_page(server, "&at=deep")
    all_of_them = page.inner_text("#count")
    # A brush as the mouse makes it: the axis of size, from index 5 to 10.
    page.evaluate(
        """(() => { const plot = document.getElementById('parallel');
             const i = plot.data[0].dimensions.findIndex((d) => d.name === 'size');
             return Plotly.restyle(plot, {[`dimensions[${i}].constraintrange`]: [[4.7, 10.3]]}); })()"""
    )
    page.wait_for_function("new URLSearchParams(location.search).get('where') === 'size>=6, size<=11'")
    page.wait_for_function(f"document.getElementById('count').textContent !== {json.dumps(all_of_them)}")
    few = page.inner_text("#count")
    # The same by the keyboard alone.
    page.focus("#main")
    page.keyboard.press("f")
    assert page.evaluate("document.activeElement.id") == "where"
    page.keyboard.press("Control+A")
    page.keyboard.type("policy=lazy")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.getElementById('count').textContent !== {json.dumps(few)}")
    # A bookmark and the way back show what was chosen.
    address = page.url
    again = open_page(server, "&" + address.partition("?")[2])
    assert again.inner_text("#count") == page.inner_text("#count")
    assert again.evaluate("document.getElementById('parallel').data[0].dimensions.some((d) => d.constraintrange)")
    page.go_back()
    ready(page)
    page.wait_for_function(f"document.getElementById('count').textContent === {json.dumps(few)}")


def test_designs_are_put_side_by_side_and_objectives_and_axes_chosen(server, open_page):
    page = open_page(server, "&at=deep")
    boxes = page.locator("#table-designs input")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.wait_for_function("document.querySelectorAll('#picked thead th').length === 3")
    assert page.locator("#picked .chip").count() == 2
    page.evaluate("document.getElementById('pareto').emit('plotly_click', {points: [{customdata: '3-3-1-0'}]})")
    page.wait_for_function("new URLSearchParams(location.search).getAll('pick').length === 3")
    page.select_option("#axis-x", "power_mw")
    page.wait_for_function("document.getElementById('pareto').layout.xaxis.title.text.startsWith('power_mw')")
    page.fill("#objective", "power_mw")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('anytime')?.layout?.yaxis.title.text === 'reward (power_mw)'")
    ready(page)
    page.click("#axes summary")
    page.locator("#axes input[value=policy]").uncheck()
    page.wait_for_function("document.getElementById('parallel').data[0].dimensions.every((d) => d.name !== 'policy')")


def test_everything_works_from_the_keyboard(server, open_page):
    page = open_page(server, "&at=deep")
    page.focus("#main")
    page.keyboard.press("s")
    page.keyboard.press("Control+A")
    page.keyboard.type("SELECT max(reward) AS best FROM trials")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("document.querySelector('#sql-result tbody tr') !== null")
    page.keyboard.type("; nonsense")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#sql-result .wrong")
    page.focus("#main")
    theme = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") != theme
    page.keyboard.press("j")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") != first
    page.keyboard.press("?")
    assert page.evaluate("document.getElementById('keys').open")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector("#list")
    # Every control can be reached and has a name.
    page = open_page(server, "&at=deep")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, select, input, textarea, a[href], [role=img], [role=region]')].filter((e) =>
             e.offsetParent && !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))).length"""
    )
    assert unnamed == 0


def test_a_running_study_is_followed(serve, open_page, bowl, folder, tmp_path):
    source = folder / "deep" / "trials" / "ga-s0.arrows"
    schema, batches, _ = read_shard(source)
    with ShardWriter(tmp_path / "run" / "trials" / "ga-s0.arrows", schema) as writer:
        writer.append(batches[1])
        server = serve(tmp_path)
        page = open_page(server, "&at=run")
        assert page.locator("#live").is_visible()
        before, count = page.inner_text("#text-facts"), page.inner_text("#count")
        page.wait_for_timeout(2500)  # the stream has to know the first state
        for batch in batches[2:]:
            writer.append(batch)
        rows = sum(len(batch) for batch in batches)
        page.wait_for_function(
            f"document.getElementById('text-facts').textContent.includes('{rows} simulated')", timeout=60_000
        )
        page.wait_for_function(f"document.getElementById('count').textContent !== {json.dumps(count)}", timeout=60_000)
        assert page.inner_text("#text-facts") != before
        # A further run appears by itself, too.
        problem = make_problem("bowl/deep", objective="time_ns*power_mw")
        search(problem, make_agent("random", problem, 5), 60, log=tmp_path / "run" / "trials" / "random-s5.arrows")
        page.wait_for_function("document.getElementById('text-facts').textContent.includes('random')", timeout=60_000)
    page.wait_for_function("document.getElementById('live').hidden", timeout=60_000)


def test_hostile_names_are_inert_text(serve, open_page, folder, tmp_path):
    schema, batches, _ = read_shard(folder / "deep" / "trials" / "ga-s0.arrows")
    about = json.loads(schema.metadata[b"archgym"])
    where = tmp_path / HOSTILE.replace("/", "|")[:120]
    for number, names in enumerate(
        (
            {"agent": HOSTILE, "run": HOSTILE, "study": HOSTILE, "hyperparameters": json.dumps({HOSTILE: HOSTILE})},
            {"agent": "ga</option>" + HOSTILE},
            {"problem": "bowl/" + HOSTILE, "objective": HOSTILE, "space": HOSTILE, "workload": HOSTILE},
        )
    ):
        changed = schema.with_metadata({"archgym": json.dumps({**about, **names})})
        with ShardWriter(where / "trials" / f"{number}.arrows", changed) as writer:
            for batch in batches:
                writer.append(batch.replace_schema_metadata(changed.metadata))
    server = serve(tmp_path)
    key = server.ask("items")["items"][0]["key"]
    sql = quote("SELECT * FROM trials LIMIT 3")
    for query in ("", f"&at={quote(key)}", f"&at={quote(key)}&p=1&sql={sql}"):
        page = open_page(server, query)
        assert "<img src=x" in page.inner_text("body")
        page.evaluate(
            """(() => { const plot = document.getElementById('pareto');
                 if (plot && plot.data) Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]); })()"""
        )
        page.wait_for_timeout(300)
        found = page.evaluate(
            """({ pwned: window.pwned === undefined, images: document.querySelectorAll('img[src="x"]').length,
                  links: [...document.querySelectorAll('a')].filter((a) => /evil/.test((a.getAttribute('href') || '')
                    .replace(/^\\?.*/, '') + (a.getAttribute('xlink:href') || ''))).length,
                  scripts: [...document.scripts].filter((s) => !s.src).length })"""
        )
        assert found == {"pwned": True, "images": 0, "links": 0, "scripts": 0}
