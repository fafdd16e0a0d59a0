"""Figures come to the page and into pictures, and nothing else of the page changes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.roster import SERVERS, named
from bench.workload import Plan, Results
from bench.workloads import cost

from bench import document, machine, noise, plot, table, write

PAGE = f"# Performance\n\nBefore.\n\n{write.BEGIN}\nold\n{write.END}\n\nAfter.\n"
FIGURES = {"p50": 1.0, "p99": 2.0, "spin_ms": 10.0, "spin_after_ms": 20.0, "stolen": 0.5, "foreign": 7.0, "lost": 0.0}


def measured() -> dict[str, object]:
    results = Results(
        {("cost", "raw"): [{"us": 20.0, **FIGURES}] * 3, ("cost", "tidelog-memory"): [{"us": 15.0, **FIGURES}] * 3},
        {("cost", "nchan"): "it could not be installed"},
    )
    made = document.made(Plan(machine.Cores(1, 0), "full", results), [cost.WORKLOAD], "The ceiling.")
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def test_the_page_gets_table_gates_and_picture(tmp_path: Path) -> None:
    (tmp_path / write.PAGE).write_text(PAGE)
    write.into(tmp_path, [measured()])
    page = (tmp_path / write.PAGE).read_text()
    assert page.startswith(f"# Performance\n\nBefore.\n\n{write.BEGIN}\n") and page.endswith(f"{write.END}\n\nAfter.\n")
    assert "| tidelog memory, tidelog serve | 15.0 (15.0 to 15.0) | 0.75 |" in page
    assert "| cost | tidelog memory, tidelog serve | CPU µs/event | ≤ 0.85 × raw | 0.75 | met |" in page
    assert "nginx with nchan: it could not be installed" in page, "a peer without figures is named"
    assert "old" not in page and "The ceiling." in page and "others took more than 5 %" in page
    assert (tmp_path / "images" / "bench-cost.svg").exists()


def test_a_later_document_wins(tmp_path: Path) -> None:
    (tmp_path / write.PAGE).write_text(PAGE)
    later = measured()
    later["workloads"]["cost"]["raw"]["rounds"] = [{"us": 30.0, **FIGURES}]  # type: ignore[index]
    write.into(tmp_path, [measured(), later])
    page = (tmp_path / write.PAGE).read_text()
    assert "| raw ASGI, uvicorn | 30.0 | 1.00 |" in page
    assert page.count("Measured ") == 1


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / write.PAGE).write_text("# Performance\n")
    with pytest.raises(ValueError, match="once each"):
        write.into(tmp_path, [measured()])


def test_our_own_page_has_its_marks() -> None:
    page = (write.DOCS / write.PAGE).read_text()
    assert f"{write.BEGIN}\n\nnew figures\n{write.END}" in write.between(page, "new figures")


def test_a_document_holds_every_round() -> None:
    results = document.results_of(measured())
    assert results.values("cost", "raw", "us") == [20.0] * 3
    assert results.errors == {("cost", "nchan"): "it could not be installed"}


def test_columns_that_nobody_fills_are_left_out() -> None:
    results = Results({("cost", "raw"): [{"us": 20.0, "p50": 1.0}]})
    head, row = table.rows_of(cost.WORKLOAD, SERVERS, results)
    assert head == ["", "CPU µs/event", "× raw", "p50 ms"]
    assert row == [named("raw").title, "20.0", "1.00", "1.0"]


def test_a_picture_is_xml_and_cuts_what_is_far_off() -> None:
    bars = [plot.Bar("a < b", 10.0, True), plot.Bar("c", 12.0, False), plot.Bar("d", 1000.0, False)]
    picture = plot.bars("A & B", bars, digits=1)
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "→ 1,000.0" in texts and "12.0" in texts and "a < b" in texts
    widths = [float(element.attrib["width"]) for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] < widths[1] < widths[2] <= plot.WIDTH - plot.LEFT - plot.RIGHT


def test_only_measurements_that_can_tell_are_counted_as_disturbed_or_not() -> None:
    spins = {noise.BEFORE: 10.0, noise.AFTER: 20.0, noise.STOLEN: 0.0}
    told = noise.summary(
        Results({("a", "x"): [{**spins, noise.FOREIGN: 9.0, noise.CLIENT: 90.0}], ("b", "x"): [spins]})
    )
    assert "In 1 of 1 measurements others took more than 5 %" in told and "the client was busy" in told
    quiet = noise.summary(Results({("b", "x"): [spins]}))
    assert "others took" not in quiet and "2.00 × at worst" in quiet
    assert noise.summary(Results()) == "Nothing was measured."
