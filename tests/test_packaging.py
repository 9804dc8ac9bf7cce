"""What is installed is `energyprof` alone, and a source distribution builds the same again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import ROOT

KEPT = ("energyprof", "collectors", "reports", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


def build(source: Path, kind: str, out: Path) -> Path:
    """Call the build backend as pip does, without a network: `setuptools` is there."""
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str], list[str]]:
    """Names in the wheel, in the source distribution, and in the wheel built from that."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in KEPT:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    with zipfile.ZipFile(build(source, "wheel", folder)) as wheel:
        in_wheel = wheel.namelist()
    with tarfile.open(build(source, "sdist", folder)) as archive:
        in_sdist = archive.getnames()
        archive.extractall(folder / "again", filter="data")
    (unpacked,) = (folder / "again").iterdir()
    (folder / "second").mkdir()
    with zipfile.ZipFile(build(unpacked, "wheel", folder / "second")) as wheel:
        return in_wheel, in_sdist, wheel.namelist()


def test_the_wheel_holds_energyprof_alone(distributions: tuple[list[str], list[str], list[str]]) -> None:
    in_wheel, _, _ = distributions
    assert {name.split("/")[0].split("-")[0] for name in in_wheel} == {"energyprof"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "energyprof").rglob("*.py")}
    # The two links are followed in the tree, so that their files are listed under energyprof.
    for folder in ("collectors", "reports"):
        files |= {f"energyprof/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
    assert {name for name in in_wheel if name.endswith(".py")} == files
    assert "energyprof/py.typed" in in_wheel


def test_a_wheel_from_the_source_distribution_is_the_same(
    distributions: tuple[list[str], list[str], list[str]],
) -> None:
    in_wheel, in_sdist, again = distributions
    assert sorted(again) == sorted(in_wheel)
    assert any(name.endswith("/collectors/nvml.py") for name in in_sdist)
    assert any(name.endswith("/LICENSE") for name in in_sdist)


def test_the_links_in_the_tree_are_the_mapping_of_the_package() -> None:
    for name in ("collectors", "reports"):
        assert os.readlink(ROOT / "energyprof" / name) == f"../{name}"
    listed = (ROOT / "pyproject.toml").read_text()
    for folder in (ROOT / "energyprof").rglob("__init__.py"):
        package = ".".join(folder.parent.relative_to(ROOT).parts)
        assert f'"{package}"' in listed


def test_every_collector_is_found_by_its_entry_point() -> None:
    points = {point.name: point for point in metadata.entry_points(group="energyprof.collectors")}
    assert {"nvml", "rapl", "cpu_model", "dram_model"} <= set(points)
    for point in points.values():
        assert callable(point.load())


def test_the_folders_are_importable_by_their_package_names_alone(tmp_path: Path) -> None:
    code = "import energyprof.collectors.nvml, energyprof.reports.text\n" + "".join(
        f"try:\n    import {name}\n    print('{name}')\nexcept ImportError:\n    pass\n"
        for name in ("collectors", "reports")
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("", "")
