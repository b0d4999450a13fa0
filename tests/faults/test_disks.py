"""Disks that are full, read-only or taken away under a whole run (rows B1, B3, B4, B6, B7, B17)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from after_a_crash import environment_of, lanewise, outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def mount(*args: str) -> None:
    if subprocess.run(["mount", *args], capture_output=True).returncode:
        pytest.skip("needs the right to mount")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Folders on file systems of their own, by their mount options."""
    made: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"small-{len(made)}"
        place.mkdir()
        mount("-t", "tmpfs", "-o", f"{options},mode=755", "tmpfs", str(place))
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("options", ["size=400k", "nr_inodes=12"])
def test_b1_b17_full_in_the_middle_then_room(
    tmp_path: Path, server: dict[str, str], finished: Path, small: Callable[[str], Path], options: str
) -> None:
    """B1, B17: exit 5 and what to do; with room the same command ends where an undisturbed run ends."""
    place = small(options)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lanewise").symlink_to(place)
    full = lanewise(tmp_path / "run", server, "run")
    assert full.returncode == 5, full.stderr
    assert "Traceback" not in full.stderr
    assert "the disk is full" in full.stderr and "free space" in full.stderr
    subprocess.run(["mount", "-o", "remount,size=100m,nr_inodes=100k", str(place)], check=True)
    done = lanewise(tmp_path / "run", server, "run")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run", "tiny").trials == outcome(finished, "tiny").trials


def test_b3_full_where_the_artifacts_go(
    tmp_path: Path, server: dict[str, str], finished: Path, small: Callable[[str], Path]
) -> None:
    """B3: the model waits on this disk; with room it is registered, once."""
    place = small("size=40k")
    (tmp_path / "run" / "mlruns").mkdir(parents=True)
    (tmp_path / "run" / "mlruns" / "artifacts").symlink_to(place)
    full = lanewise(tmp_path / "run", server, "run")
    assert full.returncode == 5, full.stderr
    assert "Traceback" not in full.stderr and "disk is full" in full.stderr
    subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
    done = lanewise(tmp_path / "run", server, "run")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run", "tiny") == outcome(finished, "tiny")


def test_b4_full_in_the_report(tmp_path: Path, server: dict[str, str], finished: Path) -> None:
    """B4: results are kept, an old report stays, none is half written."""
    folder = tmp_path / "run"
    full = lanewise(folder, server, "run", LANEWISE_FAULT="mid_report:1:ENOSPC")
    assert full.returncode == 5, full.stderr
    assert "the disk is full" in full.stderr and "report.html" in full.stderr and "Traceback" not in full.stderr
    reports = folder / ".lanewise" / "studies" / "tiny"
    assert not (reports / "report.html").exists()
    done = lanewise(folder, server, "run")
    assert done.returncode == 0, done.stderr
    assert not [path.name for path in reports.iterdir() if path.name.startswith(".report")], "no half report is left"
    assert outcome(folder, "tiny") == outcome(finished, "tiny")


def test_b6_a_study_folder_that_cannot_be_written(tmp_path: Path, server: dict[str, str]) -> None:
    """B6: said before anything is trained; root may write everywhere, so a read-only mount."""
    home = tmp_path / "run" / ".lanewise"
    home.mkdir(parents=True)
    mount("--bind", str(home), str(home))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(home)], check=True)
        refused = lanewise(tmp_path / "run", server, "run")
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)
    assert refused.returncode == 2, refused.stderr
    assert "cannot be written" in refused.stderr and str(home) in refused.stderr
    assert "lr_range" not in refused.stderr and "Traceback" not in refused.stderr


def test_b7_the_folder_is_removed_under_a_run(tmp_path: Path, server: dict[str, str]) -> None:
    """B7: an error with its path; the next run begins anew."""
    folder = tmp_path / "run"
    lanewise(folder, server, "check")
    running = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "tiny.yaml", "--set", "search.trials=4000"],
        cwd=folder, env=environment_of(server), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(folder.glob(".lanewise/studies/tiny/rows-*/ledger.db")):
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    time.sleep(1.0)
    shutil.rmtree(folder / ".lanewise", ignore_errors=True)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 5, said
    assert ".lanewise/studies/tiny" in said and "Traceback" not in said
