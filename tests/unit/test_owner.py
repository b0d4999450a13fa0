"""Who holds a lock, and that another process with the same id, or another boot, is not taken for it (row A17)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lanewise.errors import StudyHeldError
from lanewise.owner import Owner, boot_id, hold, myself, owner_in, start_of


def test_this_process_is_alive() -> None:
    me = myself()
    assert me.alive() and me.pid == os.getpid()
    assert str(me).startswith(f"process {os.getpid()} on ")


def test_one_that_ended_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(myself(), pid=child.pid, started=start_of(child.pid))
    assert owner.alive()
    child.kill()
    while start_of(child.pid):  # a zombie is gone too
        pass
    assert not owner.alive()
    child.communicate()
    assert not owner.alive()


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}, {"started": 0}])
def test_a17_a_process_id_that_is_used_again(change: dict[str, object]) -> None:
    """A17: after a reboot, or when process ids have gone round, the id is another process's."""
    assert replace(myself(), **change).alive() is False


def test_on_another_machine_nobody_can_say() -> None:
    assert replace(myself(), host="elsewhere").alive() is None


def test_fields_of_a_process_are_found_behind_any_name(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a ) S 1 (b)) S 1 " + " ".join(map(str, range(5, 30))))
    assert start_of(7, tmp_path) == 22
    assert (start_of(8, tmp_path), boot_id(tmp_path)) == (0, "")
    assert start_of(os.getpid()) == int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


def test_the_lock_says_who_has_it_and_who_had_it_last(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "run.lock"
    assert owner_in(path) is None
    with hold(path):
        holder = owner_in(path)
        assert holder == replace(myself(), since=holder.since if holder else "")
        with pytest.raises(StudyHeldError, match=f"held by process {os.getpid()} on"):
            hold(path)
    hold(path).close()
    path.write_text("process 17 since noon")
    assert owner_in(path) is None, "of an earlier version: nothing is known"
    assert Owner("h", 1, 2, "b", "s").alive() is None
