"""The wheel works where there is no checkout: what it holds, and where it keeps what it makes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from strategies.walkforward.provenance import code_version, pages_version

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("commands", "data", "lab", "nas", "reports", "strategies")
NO_SOURCE = shutil.ignore_patterns("__pycache__", "cache", "runs", "latest", "paper-*", "*.html")

#: in an empty folder, with the wheel as the only place of this code
ASKED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import nas.kernels.compiling, numba, reports.page
from data.place import CHECKOUT, ROOT
from data.store import Store
from strategies.reproduced import expected
from strategies.walkforward import looks
from strategies.walkforward.config import of_preset
from strategies.walkforward.provenance import code_version, pages_version
looks.Register().rows()
print(json.dumps({
    "root": str(ROOT), "checkout": CHECKOUT, "store": str(Store().root), "kernels": numba.config.CACHE_DIR, "code": code_version(),
    "pages": pages_version(), "presets": [bool(of_preset(name)) for name in ("quick", "default", "thorough")], "hashes": bool(expected()),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves its own files beside the source, and takes old ones from there."""
    copy = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=NO_SOURCE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    (found,) = copy.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    tracked = subprocess.check_output(["git", "ls-files", "--", *PACKAGES], cwd=ROOT, text=True).split()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.split("/")[0] in PACKAGES}
    assert {name for name in tracked if (ROOT / name).is_file()} - held == set()
    assert not {name for name in held if name.split("/")[0] in ("tests", "docs", "examples", "benchmarks")}


def test_outside_a_checkout_it_finds_its_files_and_keeps_nothing_beside_them(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "empty"
    here.mkdir()
    (here / "reports").mkdir()  # what a run leaves behind must not hide the packages of the same names
    (here / "data").mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "REGIME_CACHE", "NUMBA_CACHE_DIR")
    }
    own |= {"XDG_CACHE_HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", ASKED, str(site)], cwd=here, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    assert found == {
        "root": str(site), "checkout": False, "store": str(here / "data/cache"), "kernels": str(tmp_path / "home" / name / "kernels"),
        "code": code_version(), "pages": pages_version(), "presets": [True, True, True], "hashes": True,
    }  # fmt: skip
    assert not list(site.rglob("*.nbc"))


def test_the_container_takes_what_the_wheel_is_made_of_and_is_nobody_special() -> None:
    """No container is built here: what it copies exists, reaches it, and is all that the wheel needs."""
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    copied = {name for line in lines if line[0] == "COPY" for name in line[1:-1]}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert copied == {*PACKAGES, "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert copied == {name[1:] for name in ignored if name[0] == "!"}
    assert [line[1] for line in lines if line[0] == "USER"] == ["trader"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entry,) = (json.loads(line[1]) for line in lines if line[0] == "ENTRYPOINT")
    assert entry[0] in project["scripts"]
