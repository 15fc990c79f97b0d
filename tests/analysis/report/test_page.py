"""report.html: what it says, what it never lets through, and what a browser makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labs.analysis.load import load_run
from labs.analysis.report.markup import MAX_FIGURE_BYTES
from labs.analysis.report.page import open_run, render, write_report
from labs.analysis.report.svg import embedded
from labs.experiment import sweep
from labs.runtime.errors import InputError
from labs.runtime.grid import grid
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.pictures import as_svg
from labs.runtime.reports import Checkpoint, Report

pytestmark = pytest.mark.usefixtures("without_ray")

EVIL = "<script>document.title='run'</script><img src=x onerror=alert(1)>"
SCRIPTS = "猫 собака قطة σκύλος <b>&amp;"


@dataclass(frozen=True)
class Trial:
    animal: str = "cat"
    size: float = 1.0
    seed: int = 0


def grow(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
    rng = np.random.default_rng([config.seed, len(config.animal)])
    for step in range(1, 4):
        if config.animal == EVIL:
            raise ValueError(f"no such animal: {EVIL}")
        if config.animal == "stop":
            raise KeyboardInterrupt
        yield Report(step, {"val/score": config.size * step + rng.random() / 10})


class Page(HTMLParser):
    """Its tags with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def run_animals(root: Path, *animals: str, seeds: int = 3) -> Path:
    options = RuntimeOptions(run_root=str(root), run_name="animals", local_mode=True)
    configs = grid(Trial, animal=list(animals), size=[0.5, 2.0], seed=range(seeds))
    sweep(grow, configs, metric="val/score", options=options)
    return root / "grow" / "animals"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a failed config and with names in many scripts, one of them HTML."""
    return run_animals(tmp_path_factory.mktemp("runs"), SCRIPTS, EVIL, seeds=2)


def test_the_report_of_a_run(path: Path) -> None:
    text = (path / "report.html").read_text()
    page = Page(text)
    for sentence in (path / "answers.txt").read_text().splitlines():
        assert sentence in page.text
    run = load_run(path)
    mean = run.table.loc[(run.table["animal"] == SCRIPTS) & (run.table["size"] == 2.0), "val/score"]
    assert f"{mean.mean():.4g}" in page.text
    assert "8 trials: 4 done, 4 failed. The run is not complete." in page.text
    assert page.text.count(f"ValueError: no such animal: {EVIL}") >= 1
    assert "raise ValueError" in page.text  # the last lines of what it left
    assert run.description["versions"]["torch"] in page.text
    # The answers stand before the tables, and these before figures, origin and commands.
    order = [text.index(word) for word in ('class="answers"', "Results<", "Figures<", "made<")]
    assert order == sorted(order)
    assert len(text) < 3_000_000


def test_names_are_escaped_and_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = (path / "report.html").read_text()
    page = Page(text)
    assert SCRIPTS in page.text and EVIL in page.text
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "link", "object")][1:]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "@import" not in text and "url(http" not in text
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers)) > 10
    for _, attributes in page.tags:
        used = attributes.get("href") or ""
        assert not used.startswith("#") or used[1:] in identifiers


def test_foreign_svg_is_sanitised() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        ' onload="alert(1)"><script>alert(2)</script><style>@import url(http://x/y.css);</style>'
        '<foreignObject><p>hi</p></foreignObject><a xlink:href="http://x/">link</a>'
        '<image xlink:href="http://x/y.png"/><clipPath id="p"/><path id="q" clip-path="url(#p)"'
        ' onclick="alert(3)"/><use xlink:href="#q"/><text>1 &lt; 2</text></svg>'
    )
    found = embedded(svg.encode(), "f7")
    assert found is not None
    markup, pixels = found
    assert pixels
    assert "alert" not in markup and "http://x" not in markup and "<p>" not in markup
    assert 'id="f7-q"' in markup and 'clip-path="url(#f7-p)"' in markup
    assert 'href="#f7-q"' in markup and "1 &lt; 2" in markup
    assert embedded(b"<html/>", "f") is None and embedded(b"<svg", "f") is None


def test_figures_are_reproducible_and_their_text_stays_text() -> None:
    def drawn() -> bytes:
        figure, axes = plt.subplots(figsize=(3, 2))
        axes.plot([1, 3, 2], label="a < b")
        axes.legend()
        content = as_svg(figure)
        plt.close(figure)
        return content

    assert drawn() == drawn()
    assert b"a &lt; b</text>" in drawn()


def test_large_figures_are_pictures_and_larger_ones_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot(*rng.random((2, 6000)), "o", ms=1)
    with open_run("many", Trial(), RuntimeOptions(run_root=str(tmp_path))) as run:
        small = run.add_figure("points", figure)
        (small.parent / "noise.png").write_bytes(rng.bytes(2 * MAX_FIGURE_BYTES + 1))
    plt.close(figure)
    assert small.with_suffix(".svg").stat().st_size > MAX_FIGURE_BYTES
    page = Page((run.path / "report.html").read_text())
    (picture,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert picture["alt"] == "points" and str(picture["src"]).startswith("data:image/png;base64,")
    assert "Too large for this page, in the run's figures folder: noise." in page.text


def test_an_interrupted_run_has_its_page_with_curves(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_animals(tmp_path, "dog", "stop", seeds=1)
    page = Page((tmp_path / "grow" / "animals" / "report.html").read_text())
    assert "4 trials: 2 done, 2 interrupted. The run is not complete." in page.text
    assert "val/score by config" in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 1
    assert "labs.load_run(" in page.text


def test_an_error_in_the_report_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr("labs.analysis.report.page.write_report", broken)
    path = run_animals(tmp_path, "dog", seeds=1)
    assert "report.html could not be written: RuntimeError: no font" in capsys.readouterr().out
    assert (path / "results.csv").exists() and not (path / "report.html").exists()


def test_a_run_that_did_not_start_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="stop here"),
        open_run("none", Trial(), RuntimeOptions(run_root=str(tmp_path))),
    ):
        raise InputError("stop here")
    assert not list(tmp_path.iterdir())


def test_several_runs_on_one_page(path: Path, tmp_path: Path) -> None:
    run = load_run(path)
    other = replace(run, table=run.table.assign(**{"val/score": run.table["val/score"] + 1.0}))
    page = Page(render([run, other], ["a", "b"]))
    assert page.text.count("How it was made") == 2
    assert "What differs" in page.text and "2 runs" in page.text
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    with pytest.raises(InputError, match="is not a run directory"):
        write_report([tmp_path], tmp_path / "x.html")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

PROBE = """<script>
const errors = [];
addEventListener('error', event => errors.push(String(event.message || event.target.outerHTML)), true);
addEventListener('load', () => {
  const images = [...document.images].filter(image => !image.complete || !image.naturalWidth);
  const drawings = [...document.querySelectorAll('figure svg')].filter(
    svg => svg.getBoundingClientRect().width < 100 || !svg.querySelector('path'));
  document.title = JSON.stringify({errors, images: images.length, drawings: drawings.length,
    figures: document.querySelectorAll('figure svg').length,
    wide: document.documentElement.scrollWidth > innerWidth});
});
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1500, 400])
def test_the_report_opens_in_a_browser(path: Path, tmp_path: Path, width: int) -> None:
    """A probe before the page counts errors, what is not drawn, and what is wider than the window."""
    text = (path / "report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("<head>", f"<head>{PROBE}", 1))
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *(
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
        ),
        *("--enable-logging=stderr", "--dump-dom", probed.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    (title,) = re.findall(r"<title>(\{.*?\})</title>", done.stdout)
    assert title == '{"errors":[],"images":0,"drawings":0,"figures":2,"wide":false}'
