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


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def build(source: Path, kind: str, out: Path) -> Path:
    """Call the build backend as pip does, without a network: `setuptools` is there."""
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return out / done.stdout.split()[-1]


def copy_of_the_tree(source: Path, links: bool = True) -> Path:
    """What a build needs, in a folder of its own."""
    source.mkdir()
    for name in KEPT:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    if not links:  # as git writes them where there are no symbolic links: small files that hold the target
        for name in ("collectors", "reports"):
            link = source / "energyprof" / name
            target = os.readlink(link)
            link.unlink()
            link.write_text(target)
    return source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build(copy_of_the_tree(folder / "source"), "wheel", folder)


@pytest.fixture(scope="module")
def distributions(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], list[str], list[str]]:
    """Names in the wheel, in the source distribution, and in the wheel built from that."""
    folder = tmp_path_factory.mktemp("dist")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.namelist()
    with tarfile.open(build(copy_of_the_tree(folder / "source"), "sdist", folder)) as archive:
        in_sdist = archive.getnames()
        archive.extractall(folder / "again", filter="data")
    (unpacked,) = (folder / "again").iterdir()
    (folder / "second").mkdir()
    with zipfile.ZipFile(build(unpacked, "wheel", folder / "second")) as archive:
        return in_wheel, in_sdist, archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files alone, as site-packages would have them."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_installed(installed: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_wheel_holds_energyprof_alone(distributions: tuple[list[str], list[str], list[str]]) -> None:
    in_wheel, _, _ = distributions
    assert {name.split("/")[0].split("-")[0] for name in in_wheel} == {"energyprof"}
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "energyprof").rglob("*.py")}
    # The two links are followed in the tree, so that their files are listed under energyprof.
    for folder in ("collectors", "reports"):
        files |= {f"energyprof/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob("*.py")}
    assert {name for name in in_wheel if name.endswith(".py")} == files
    data = {
        "py.typed",
        "carbon/cloud_regions.json",
        "carbon/iso3166.json",
        "flops/devices.json",
        "launch/startup/sitecustomize.py",
        "reports/report.html.j2",
        "reports/report.css",
        "reports/report.js",
        "reports/breakdown.js",
        "reports/power.js",
    }
    assert {f"energyprof/{name}" for name in data} <= set(in_wheel)


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


def test_a_wheel_from_a_clone_without_symbolic_links_is_the_same(
    distributions: tuple[list[str], list[str], list[str]], tmp_path: Path
) -> None:
    source = copy_of_the_tree(tmp_path / "source", links=False)
    with zipfile.ZipFile(build(source, "wheel", tmp_path)) as archive:
        assert sorted(archive.namelist()) == sorted(distributions[0])


def test_the_wheel_has_its_metadata_and_no_test_or_benchmark(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        described = archive.read(f"{info}/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"energyprof", info}
    assert f"{info}/licenses/LICENSE" in names
    assert f"Version: {metadata.version('energyprof')}\n" in described
    assert not [name for name in names if name.endswith((".pyc", ".c", ".h")) or "/test" in name]


def test_the_package_list_is_the_folders_that_are_packages() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {"energyprof": "energyprof"} | {
        f"energyprof.{name}": name for name in ("collectors", "reports")
    }
    found = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in folders.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(settings["packages"]) == sorted(found)
    assert settings["package-dir"] == folders


def test_what_is_installed_imports_from_its_own_folder_and_no_other_name(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import importlib.util as u, energyprof.collectors.nvml, energyprof.reports.text, energyprof.cli\n"
        "print(energyprof.collectors.nvml.__file__, energyprof.reports.text.__file__, sep='\\n')\n"
        "print([n for n in ('collectors', 'reports') if u.find_spec(n)])"
    )
    done = run_installed(installed, code, tmp_path)
    assert done.stdout.splitlines() == [
        str(installed / "energyprof/collectors/nvml.py"),
        str(installed / "energyprof/reports/text.py"),
        "[]",
    ], done.stderr


def test_the_entry_points_of_what_is_installed_load_and_the_command_answers(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom importlib.metadata import distribution\n"
        "own = distribution('energyprof').entry_points\n"
        "print(*sorted(p.name for p in own.select(group='energyprof.collectors') if p.load().source))\n"
        "(command,) = own.select(group='console_scripts')\n"
        "sys.argv = [command.name, '--version']\n"
        "sys.exit(command.load()())"
    )
    done = run_installed(installed, code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "amd cpu_model cpu_time dram_model hwmon nvml rapl"
    assert metadata.version("energyprof") in done.stdout


def test_what_is_installed_writes_a_report(installed: Path, tmp_path: Path) -> None:
    code = (
        "from energyprof.reports import html, parts\n"
        "page = parts.Page('t', 'v', (), (parts.Section('s', 'S', ('w',)),), {})\n"
        "print(html.__file__); print(html.render(page, '0'))"
    )
    done = run_installed(installed, code, tmp_path)
    where, _, text = done.stdout.partition("\n")
    assert where == str(installed / "energyprof/reports/html.py"), done.stderr
    assert text.startswith("<!doctype html>")
    assert "--paper" in text
    assert "power-plot" in text


def test_importing_what_is_installed_loads_itself_and_the_standard_library(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; before = set(sys.modules); import energyprof\n"
        "print(*{m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    assert run_installed(installed, code, tmp_path).stdout.split() == ["energyprof"]
