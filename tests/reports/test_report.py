"""The HTML report: content, size, and a real browser."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from archgym.agents import make_agent, search
from archgym.datasets.merge import merge
from archgym.errors import ArchGymError
from archgym.problem import make_problem
from archgym.reports import write_report
from archgym.reports.charts import importance, parallel
from archgym.reports.data import anytime, explained, front_rows, load_report, runs_in
from archgym.reports.html import _cost, found, page, render

pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def folder(bowl, tmp_path_factory):
    where = tmp_path_factory.mktemp("report")
    problem = make_problem("bowl/deep", objective="time_ns*power_mw")
    for agent in ("random", "walk", "ga"):
        for seed in range(3):
            search(problem, make_agent(agent, problem, seed), 150, log=where / "trials" / f"{agent}-{seed}.arrows")
    return where


def test_the_report_is_one_file_that_asks_for_nothing(folder):
    path = write_report(folder)
    text = path.read_text()
    assert path.stat().st_size < 5_000_000
    body = re.sub(r'<script type="application/gzip".*?</script>', "", text, flags=re.S)
    assert not re.search(r'(src|href)="https?:', body)
    (report,) = load_report(folder)
    assert found(report) in body
    for word in ("bowl/deep", "time_ns", "speed_mhz", "Best design of each agent", "random", "walk"):
        assert word in body


def test_foreign_names_neither_fill_the_template_nor_end_a_script():
    name = "</script><!--<script>"
    text = page("{{LIBRARY}}", [], ["<p>{{FIGURES}}</p>"], {"f": {"data": [{"name": name}], "layout": {}}})
    assert "<title>{{LIBRARY}}</title>" in text and "<p>{{FIGURES}}</p>" in text
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, flags=re.S)[1]
    assert "<" not in figures and json.loads(figures)["f"]["data"][0]["name"] == name


def test_the_sentence_on_top_says_what_the_best_design_rests_on(folder):
    (report,) = load_report(folder)
    change = report.changes[0]
    sentence = found(report)
    assert sentence.startswith('<p class="found">') and sentence.count("</p>") == 1
    assert change.cheapest[1] > 0
    assert f"what it rests on: {change.parameter}={change.value} ({change.cheapest[0]} costs " in sentence


def test_sixteen_axes_have_room_for_their_words(tmp_path):
    problem = make_problem("synthetic/rugged")
    search(problem, make_agent("random", problem, 0), 200, log=tmp_path / "random.arrows")
    (report,) = load_report(tmp_path)
    _, _, figure = parallel(report)
    assert len(figure["data"][0]["dimensions"]) == 17
    assert figure["min_width"] >= 64 * 17 and figure["layout"]["margin"]["l"] >= 64


def test_numbers_in_the_report(folder):
    (report,) = load_report(folder)
    assert report.agents == ["ga", "random", "walk"] and len(report.runs) == 9
    x, quartiles = anytime(report.of("ga"))
    assert x[0] == 1 and x[-1] == 150
    assert (np.diff(quartiles, axis=1) >= 0).all() and (quartiles[0] <= quartiles[2]).all()
    shares = explained(report.problem, report.of("random")[0].table)
    assert set(shares) == set(report.problem.space.names)
    assert all(0 <= share <= 1 for share in shares.values())


def test_a_word_and_none_are_two_runs(folder, tmp_path):
    merge([folder], tmp_path / "merged")
    (path,) = (tmp_path / "merged").glob("*.parquet")
    table = pq.read_table(path)
    first = np.array(table.column("agent").to_pylist()) == "ga"
    table = table.filter(pa.array(first & (table.column("seed").to_numpy() == 0)))
    place = table.schema.get_field_index("study")
    words = (
        pa.array(["mine"] * 100 + [None] * (len(table) - 100)).dictionary_encode().cast(table.schema.field(place).type)
    )
    pq.write_table(table.set_column(place, table.schema.field(place), words), tmp_path / "x.parquet")
    assert [len(run.table) for run in runs_in(tmp_path / "x.parquet")] == [100, len(table) - 100]


@pytest.mark.parametrize("count", [0, 1, 150, 60_000])
def test_front_against_the_definition(count):
    rng = np.random.default_rng(0)
    losses = rng.integers(0, 12, (count, 2)).astype(float) if count < 1000 else rng.normal(size=(count, 2)) + 5
    losses[::7, 0] = np.nan
    rows = front_rows(losses)
    expected = [
        i for i, point in enumerate(losses[:200])
        if np.isfinite(point).all() and not ((losses <= point).all(axis=1) & (losses < point).any(axis=1)).any()
        and not (losses[:i] == point).all(axis=1).any()
    ]  # fmt: skip
    assert sorted(row for row in rows.tolist() if row < 200) == expected
    assert (np.diff(losses[rows, 0]) > 0).all() and (np.diff(losses[rows, 1]) < 0).all()


def test_the_report_says_what_changes_cost_and_what_parameters_are_worth(folder):
    (report,) = load_report(folder)
    text = render([report])
    assert "Change one parameter of the best design" in text and "cheapest other value" in text
    effects = report.effects
    assert effects is not None and effects.evaluations <= sum(len(run.best) for run in report.runs) // 4
    _, sentence, chart = importance(report)
    assert f"{effects.designs:,} uniform feasible designs" in sentence
    assert chart["data"][0]["x"] == sorted(share for share in effects.shares.values() if share > 0)


def test_a_folder_without_runs_gets_one_sentence(tmp_path):
    with pytest.raises(ArchGymError, match="holds no trials"):
        write_report(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_real_browser(folder, width):
    playwright = pytest.importorskip("playwright.sync_api")
    path = write_report(folder)
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": width, "height": 900})
        errors, requests = [], []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=true]", timeout=120_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
        # The best design's values are on the screen, and no axis of the parallel coordinates covers another's words.
        right = page.evaluate("document.querySelector('table.best td').getBoundingClientRect().right")
        assert right <= width
        overlaps = page.evaluate(
            """(() => { const boxes = [...document.querySelectorAll('#p0-parallel .axis-title')].map(
                 (e) => e.getBoundingClientRect()).sort((a, b) => a.left - b.left);
               return boxes.length < 4 || boxes.some((b, i) => i && b.left < boxes[i - 1].left + 40); })()"""
        )
        assert not overlaps
        # Hovering over the Pareto plot shows a design.
        page.evaluate(
            "(() => { const plot = document.getElementById('p0-pareto'); plot.scrollIntoView();"
            " Plotly.Fx.hover(plot, [{curveNumber: plot.data.length - 1, pointNumber: 0}]); })()"
        )
        page.wait_for_function(
            "document.querySelector('#p0-pareto .hoverlayer').textContent.includes('speed_mhz')", timeout=20_000
        )
        # Filtering hides an agent everywhere.
        shown = "Plotly.Fx && document.getElementById('p0-anytime').data.filter(t => t.visible !== 'legendonly').length"
        before = page.evaluate(shown)
        page.click("button.agent:has-text('walk')")
        assert page.evaluate(shown) < before
        page.click("button.agent:has-text('walk')")
        assert page.evaluate(shown) == before
        # The theme button works from the keyboard.
        page.focus("#theme")
        theme = page.evaluate("document.documentElement.dataset.theme")
        page.keyboard.press("Enter")
        assert page.evaluate("document.documentElement.dataset.theme") != theme
        assert page.screenshot(full_page=True)[:4] == b"\x89PNG"
        browser.close()
    assert errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def test_a_large_loss_is_said_as_a_ratio() -> None:
    problem = make_problem("systolic/resnet18", objective="edp")
    assert [_cost(problem, loss) for loss in (0.0, 0.05, 5.81, 1e4)] == [
        "nothing", "5.1 %", "330-fold", "over a trillion-fold",
    ]  # fmt: skip
    assert _cost(make_problem("synthetic/branin"), 5.81) == "5.81"
