"""`make bench` writes what benchmarks say into docs/performance.md, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, page, roofline, tasks
from benchmarks.tables import table
from data.errors import InputError
from nas.network.attention import banded_attention

TEXT = "before\n\n<!-- bench: one -->\nold\n<!-- end -->\n\nbetween\n\n<!-- bench: two -->\n<!-- end -->\nafter\n"


def test_every_command_has_its_section_on_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in ("machine", *page.COMMANDS):
        assert "new figures" in page.replaced(text, name, "new figures")


def test_only_the_section_named_is_written() -> None:
    once = page.replaced(TEXT, "one", "new")
    assert once == TEXT.replace("old\n", "\nnew\n\n")
    assert page.replaced(once, "one", "new") == once


def test_a_page_without_the_section_says_what_to_put_there() -> None:
    with pytest.raises(InputError, match="has no section '<!-- bench: three -->'"):
        page.replaced(TEXT, "three", "new")


def test_the_lines_of_a_table_stay_together_and_others_are_paragraphs() -> None:
    rows = table(["kernel", "ns"], [["sum", "0.7"], ["rank", "13"]])
    assert rows.splitlines() == ["| kernel |  ns |", "|--------|----:|", "| sum    | 0.7 |", "| rank   |  13 |"]
    assert page.spaced(f"caption\n{rows}\nlast\nline\n") == f"caption\n\n{rows}\n\nlast\n\nline"


def test_a_command_that_fails_leaves_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(TEXT.replace("between", "<!-- bench: machine -->\n<!-- end -->"), encoding="utf-8")
    monkeypatch.setattr(page, "COMMANDS", {"one": ["no.such.module"], "two": ["this"]})
    with pytest.raises(Exception, match="1"):
        page.main(only="", page=copy)
    written = copy.read_text(encoding="utf-8")
    assert "\nold\n" in written
    assert "Errors should never pass silently." in written  # what the other command printed


def test_without_an_accelerator_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "on_a_core", lambda pairs: None)
    monkeypatch.setattr(gpu, "on_an_accelerator", lambda count, epochs: pytest.fail("there is none"))
    gpu.main(count=1, epochs=1, pairs=1)
    assert capsys.readouterr().out == "no accelerator here: not measured\n"


def test_operations_of_products_and_attention_are_counted() -> None:
    left, right = torch.randn(5, 3), torch.randn(3, 7)
    assert roofline.counted(lambda: left @ right)["product operations"] == 2 * 5 * 3 * 7
    x, projections = torch.randn(20, 2, 4), torch.randn(3, 4, 12)
    found = roofline.counted(lambda: banded_attention(x, projections, 6))
    # scores and values: 6 keys x 4 channels each, of 40 places and 3 attentions
    assert found["attention operations"] == 2 * (2 * 6 * 4 * 40 * 3)
    assert found["product operations"] == 2 * 36 * 4 * 40


def test_a_schedule_is_as_long_as_its_work_where_cores_are_busy_and_as_its_longest_chain_otherwise() -> None:
    assert tasks.scheduled([(1.0, 1.0)], searches=4, cores=2) == 4.0
    assert tasks.scheduled([(3.0, 2.0)], searches=2, cores=10) == 5.0
