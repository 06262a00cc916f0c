"""The register of looks: what counts as one, what an edit looks like, what two processes at once leave."""

from __future__ import annotations

import multiprocessing
import random
from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import InputError
from strategies.walkforward.looks import FILE, SEAL, Look, Register, Stretch

BTC = Stretch(("BTCUSDT",), "2024-08-01T00:00:00", "2024-12-01T00:00:00")


def enter(register: Register, look: str, stretch: Stretch = BTC, what: str = "run") -> Look:
    return register.enter(what, look, stretch, "data", "code", {"searched": 1.25, "rival": None})


def test_the_same_run_is_one_look_however_often_it_is_shown(tmp_path: Path) -> None:
    register = Register(tmp_path)
    for what in ("run", "page", "comparison", "run", "audit"):
        assert (found := enter(register, "a", what=what)).told == "look 1 at 2024-08-01 to 2024-12-01"
        assert found.total == 1
    assert [row.what for row in register.rows()] == ["run", "page", "comparison", "audit"]


def test_other_settings_at_an_overlapping_stretch_are_another_look(tmp_path: Path) -> None:
    register = Register(tmp_path)
    enter(register, "a")
    later = replace(BTC, start="2024-11-01T00:00:00", stop="2025-03-01T00:00:00")
    assert enter(register, "b", later).number == 2
    assert enter(register, "a").told == "look 1 at 2024-08-01 to 2024-12-01 (2 by now)"


@pytest.mark.parametrize(
    "apart",
    [
        replace(BTC, market=("ETHUSDT",)),
        replace(BTC, start="2025-01-01T00:00:00", stop="2025-03-01T00:00:00"),
        Stretch.of(("BTCUSDT",), True, "fingerprint", BTC.start, BTC.stop),
    ],
    ids=["another market", "later days", "simulated"],
)
def test_what_shares_no_market_or_no_day_is_a_first_look(tmp_path: Path, apart: Stretch) -> None:
    register = Register(tmp_path)
    enter(register, "a")
    assert enter(register, "b", apart).number == 1


def test_one_symbol_in_common_is_enough(tmp_path: Path) -> None:
    register = Register(tmp_path)
    enter(register, "a")
    assert enter(register, "b", replace(BTC, market=("BTCUSDT", "ETHUSDT"))).number == 2


def edited(text: bytes, rng: random.Random) -> bytes:
    """One change anywhere: a byte, a line removed, doubled, moved, or the end cut off."""
    lines = text.splitlines(keepends=True)
    kind = rng.randrange(5)
    at = rng.randrange(len(lines))
    if kind == 0:
        place = rng.randrange(len(text))
        return text[:place] + bytes([text[place] ^ (1 << rng.randrange(8))]) + text[place + 1 :]
    if kind == 1:
        return b"".join(lines[:at] + lines[at + 1 :])
    if kind == 2:
        return b"".join(lines[:at] + [lines[at]] + lines[at:])
    if kind == 3:
        return b"".join(lines[at:] + lines[:at])
    return text[: rng.randrange(len(text))]


def test_every_one_of_a_thousand_edits_is_found(tmp_path: Path) -> None:
    register = Register(tmp_path)
    for number in range(8):
        enter(register, f"run-{number}")
    whole, rng, tried = register.path.read_bytes(), random.Random(28), 0
    while tried < 1000:
        if (changed := edited(whole, rng)) == whole:
            continue
        register.path.write_bytes(changed)
        with pytest.raises(InputError, match="was changed"):
            register.rows()
        tried += 1
    register.path.write_bytes(whole)
    assert len(register.rows()) == 8


def test_a_changed_register_counts_nothing_and_says_so(tmp_path: Path) -> None:
    register = Register(tmp_path)
    enter(register, "a")
    enter(register, "b")
    register.path.write_bytes(register.path.read_bytes().splitlines(keepends=True)[0])
    found = enter(register, "c")
    assert found.number is None
    assert "the seal counts 2 rows, the file has 1" in found.told
    assert "move" in found.told
    (tmp_path / FILE).unlink()
    (tmp_path / SEAL).write_text("two\n")
    assert "seal" in enter(register, "c").why


def test_what_a_kill_left_unfinished_is_mended(tmp_path: Path) -> None:
    register = Register(tmp_path)
    enter(register, "a")
    seal = (tmp_path / SEAL).read_text()
    whole = register.path.read_bytes()
    enter(register, "b")
    both = register.path.read_bytes()
    (tmp_path / SEAL).write_text(seal)  # killed between row and seal
    assert [row.look for row in register.rows()] == ["a", "b"]
    register.path.write_bytes(both[: len(whole) + 30])  # killed within the row
    assert [row.look for row in register.rows()] == ["a"]
    assert enter(register, "b").number == 2


def test_a_folder_that_cannot_be_written_costs_no_run_its_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = enter(Register(tmp_path / "file" / "looks"), "a")
    assert found.total is None
    assert "cannot be written" in found.why


def _enter_many(folder: Path, name: str) -> None:
    for number in range(20):
        enter(Register(folder), f"{name}-{number}")


def test_two_processes_at_once_lose_no_row(tmp_path: Path) -> None:
    spawned = [multiprocessing.get_context("spawn").Process(target=_enter_many, args=(tmp_path, n)) for n in "ab"]
    for process in spawned:
        process.start()
    for process in spawned:
        process.join()
    assert {row.look for row in Register(tmp_path).rows()} == {f"{n}-{k}" for n in "ab" for k in range(20)}


def charge(register: Register, look: str, budget: int, stretch: Stretch = BTC) -> None:
    register.charge(look, stretch, "data", "code", budget)


def test_a_budget_is_charged_once_a_look_and_ends(tmp_path: Path) -> None:
    register = Register(tmp_path)
    elsewhere = replace(BTC, market=("ETHUSDT",))
    charge(register, "a", 2)
    charge(register, "a", 2)
    charge(register, "b", 2, elsewhere)  # other days are no way out
    with pytest.raises(InputError, match="the budget of 2 looks is spent"):
        charge(register, "c", 2)
    with pytest.raises(InputError, match="began with a budget of 2"):
        charge(register, "c", 3)
    charge(register, "b", 2, elsewhere)
    assert [row.look for row in register.rows()] == ["a", "b"]


def test_the_first_look_of_a_budget_is_judged_as_after_all_of_it(tmp_path: Path) -> None:
    register = Register(tmp_path)
    charge(register, "a", 20)
    found = enter(register, "a")
    assert (found.number, found.total, found.budget) == (1, 20, 20)
    assert found.told.endswith("charged to a budget of 20")
    assert enter(register, "b").total == 2  # a person's look beside it is not


def test_a_budget_without_a_register_is_refused(tmp_path: Path) -> None:
    register = Register(tmp_path)
    charge(register, "a", 2)
    (tmp_path / SEAL).write_text("two\n")
    with pytest.raises(InputError, match="was changed"):
        charge(register, "b", 2)
