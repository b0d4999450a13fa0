"""The SQLite ledger damaged, locked, old, new, and on a disk that fills (rows B1, B5, B8 to B10, B12 to B15, B17)."""

from __future__ import annotations

import logging
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lanewise import file_systems
from lanewise.errors import TrackingError
from lanewise.ledger import Ledger, Report, TrialRecord, read_ledger, read_trials
from lanewise.ledger import stores as stores_of_ledger
from lanewise.ledger.stores import CONTINUE

DEFINITION = {"search": {"metric": "rmse", "direction": "minimize"}}
PAGE = 4096


def trial(number: int) -> TrialRecord:
    curve = [{"train/loss": 1 / (number + e), "valid/rmse": 2 / (number + e)} for e in range(1, 11)]
    return TrialRecord(number, {"lr": 0.1 / (number + 1)}, number, "complete", None, 0.1, 10, 10, curve)


def add(ledger: Ledger, number: int, audited_from: int | None = None) -> None:
    """One trial of ten epochs, in a tick of its own."""
    done = replace(trial(number), audited_from=audited_from)
    reports = [
        Report(number, e, row["train/loss"], {"valid/rmse": row["valid/rmse"]}, e == 10)
        for e, row in enumerate(done.curve, 1)
    ]
    ledger.write(
        number + 1, float(number), started=[(number, done.config, done.seed)], reports=reports, ended=[done]
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A ledger with 60 trials."""
    path = tmp_path / "ledger.db"
    with Ledger(path, DEFINITION) as ledger:
        for number in range(60):
            add(ledger, number)
    return path


WHOLE = [trial(number) for number in range(60)]


def test_b8_an_overwritten_page_never_loses_a_trial_unnoticed(made: Path, tmp_path: Path) -> None:
    """B8: 200 bytes in 40 random pages, one at a time: refused, with the good copy named, or not a row changed."""
    draw, refused = random.Random(0), 0
    sound = made.read_bytes()
    for _ in range(40):
        content = bytearray(sound)
        at = draw.randrange(len(sound) // PAGE) * PAGE + draw.randrange(PAGE - 200)
        content[at : at + 200] = draw.randbytes(200)
        made.write_bytes(content)
        for name in ("-wal", "-shm"):
            made.with_name(made.name + name).unlink(missing_ok=True)
        try:
            with Ledger(made, DEFINITION) as ledger:
                assert ledger.trials() == WHOLE
        except TrackingError as error:
            refused += 1
            assert error.exit_code == 5 and "is damaged: its integrity check failed" in str(error)
            assert f"the last good copy is {made}.good" in str(error)
            assert made.read_bytes() == content, "not repaired, not made anew"
    assert refused > 20
    shutil.copy(f"{made}.good", made)
    with Ledger(made, DEFINITION) as ledger:
        assert ledger.trials() == WHOLE


def test_b8_one_changed_number_is_found(made: Path) -> None:
    """B8: a row that SQLite's own check finds nothing wrong with."""
    with closing(sqlite3.connect(made)) as db:
        db.execute("UPDATE reports SET train_loss = train_loss + 1e-9 WHERE number = 7 AND epoch = 3")
        db.commit()
    with pytest.raises(TrackingError, match="rows have changed"):
        Ledger(made, DEFINITION)
    with closing(sqlite3.connect(made)) as db:
        db.execute("DELETE FROM reports WHERE number = 7 AND epoch = 3")
        db.commit()
    with pytest.raises(TrackingError, match="719 rows of 720"):
        Ledger(made, DEFINITION)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: path.write_text("these are notes\n" * 99), "this file is not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[: 5 * PAGE]), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), ""),
    ],
)
def test_b9_what_is_no_database_is_refused_and_left_as_it_is(
    made: Path, damage: Callable[[Path], object], says: str
) -> None:
    """B9: truncated, empty, or text."""
    damage(made)
    before = made.read_bytes()
    with pytest.raises(TrackingError) as caught:
        Ledger(made, DEFINITION)
    assert caught.value.exit_code == 5 and says in str(caught.value) and "good copy" in str(caught.value)
    assert made.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_ledger_files import DEFINITION, add
from lanewise.ledger import Ledger
with Ledger(Path({ledger!r}), DEFINITION) as ledger:
    for number in range({start}, 10_000):
        add(ledger, number)
        print(number, flush=True)
"""


def writer(ledger: Path, start: int = 0, before: str = "") -> subprocess.Popen[str]:
    """A process that adds trials and prints each when it is kept."""
    code = before + WRITER.format(path=sys.path, ledger=str(ledger), start=start)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_b10_wal_deleted_after_a_crash(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """B10: what was in it is gone; that is said, and the ledger is that of an earlier moment, whole."""
    path = tmp_path / "ledger.db"
    process = writer(path)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert path.with_name("ledger.db-wal").stat().st_size > 0
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink()
    with caplog.at_level(logging.WARNING), Ledger(path, DEFINITION) as ledger:
        kept = len(ledger.ticks())
        assert ledger.trials() == [trial(number) for number in range(kept)]
    found = re.search(r"(\d+) recorded steps are missing \(was its -wal file deleted\?\)", caplog.text)
    assert found and kept + int(found[1]) >= 50


def test_b13_another_process_has_it_locked(
    made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """B13: it waits, says so, and goes on; the time before it says so is shortened here."""
    monkeypatch.setattr(stores_of_ledger, "SAY_AFTER_S", 0.2)
    with caplog.at_level(logging.WARNING), Ledger(made, DEFINITION) as ledger:
        locker = subprocess.Popen(
            [
                sys.executable, "-c",
                "import sqlite3, sys, time\n"
                f"db = sqlite3.connect({str(made)!r}, isolation_level=None)\n"
                "db.execute('BEGIN IMMEDIATE'); print('locked', flush=True); time.sleep(1.5); db.execute('ROLLBACK')",
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert locker.stdout is not None and locker.stdout.readline() == "locked\n"
        add(ledger, 60)
        assert caplog.text.count("waiting for another process that has it locked") == 1
        assert ledger.trials() == [*WHOLE, trial(60)]
        locker.communicate()


SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trials (
    number INTEGER PRIMARY KEY, config TEXT NOT NULL, seed INTEGER NOT NULL, control INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, value REAL, epochs INTEGER NOT NULL, best_epoch INTEGER,
    seconds REAL NOT NULL, duplicate_of INTEGER);
CREATE TABLE reports (
    number INTEGER NOT NULL, epoch INTEGER NOT NULL, train_loss REAL, scores TEXT NOT NULL,
    finished INTEGER NOT NULL, failed TEXT, PRIMARY KEY (number, epoch)) WITHOUT ROWID;
CREATE TABLE ticks (tick INTEGER PRIMARY KEY, elapsed_s REAL NOT NULL);
"""


def test_b14_an_old_ledger_is_copied_and_upgraded(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B14: a database of schema 1 with the same trials gives the same ledger; the old file stays beside it."""
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as db:
        db.executescript(SCHEMA_1)
        db.execute("ATTACH ? AS present", (str(made),))
        for table, columns in stores_of_ledger.TABLES.items():
            names = ", ".join(name for name in columns if name != "audited_from")
            db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM present.{table}")
        db.execute("INSERT INTO meta SELECT key, value FROM present.meta WHERE key LIKE 'definition%'")
        db.execute("INSERT INTO meta VALUES ('schema_version', '1'), ('settled/lanes', '8')")
        db.commit()
    before = old.read_bytes()
    with caplog.at_level(logging.WARNING), Ledger(old, DEFINITION) as ledger:
        assert ledger.trials() == WHOLE
        assert ledger.settle("lanes", 64) == 8
        add(ledger, 60)
    assert f"upgraded from schema 1 to 3; as it was: {old}.v1" in caplog.text
    assert Path(f"{old}.v1").read_bytes() == before
    with Ledger(old, DEFINITION) as ledger:
        assert ledger.trials() == [*WHOLE, trial(60)]


SCHEMA_2 = """
CREATE TABLE meta (study TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (study, key));
CREATE TABLE trials (
    study TEXT NOT NULL, number BIGINT NOT NULL, config TEXT NOT NULL, seed BIGINT NOT NULL, control BIGINT NOT NULL,
    state TEXT NOT NULL, reason TEXT, value DOUBLE PRECISION, epochs BIGINT NOT NULL, best_epoch BIGINT,
    seconds DOUBLE PRECISION NOT NULL, duplicate_of BIGINT, PRIMARY KEY (study, number));
CREATE TABLE reports (
    study TEXT NOT NULL, number BIGINT NOT NULL, epoch BIGINT NOT NULL, train_loss DOUBLE PRECISION,
    scores TEXT NOT NULL, finished BIGINT NOT NULL, failed TEXT, PRIMARY KEY (study, number, epoch));
CREATE TABLE ticks (
    study TEXT NOT NULL, tick BIGINT NOT NULL, elapsed_s DOUBLE PRECISION NOT NULL, PRIMARY KEY (study, tick));
"""
TALLY_2 = "720:289f302f04616a14"  # of the 60 trials, as the program that wrote schema 2 kept it


def of_schema_2(made: Path, old: Path) -> None:
    """The ledger as it was written before audits."""
    with closing(sqlite3.connect(old)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(SCHEMA_2)
        db.execute("ATTACH ? AS present", (str(made),))
        for table, columns in stores_of_ledger.TABLES.items():
            names = ", ".join(name for name in columns if name != "audited_from")
            db.execute(f"INSERT INTO {table} (study, {names}) SELECT study, {names} FROM present.{table}")
        kept = "key LIKE 'definition%' OR key = 'fence'"
        db.execute(f"INSERT INTO meta SELECT study, key, value FROM present.meta WHERE {kept}")
        db.execute(f"INSERT INTO meta VALUES ('', 'schema_version', '2'), ('', 'tally', '{TALLY_2}')")
        db.commit()


def test_b14_a_ledger_from_before_audits_is_copied_and_upgraded(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """B14: schema 2 can be read as it is, by who only reads; who writes adds a column, and the sum still holds."""
    old = tmp_path / "old.db"
    of_schema_2(made, old)
    before = old.read_bytes()
    assert read_ledger(old, check=True).trials == WHOLE
    assert old.read_bytes() == before and not caplog.text
    with caplog.at_level(logging.WARNING), Ledger(old, DEFINITION) as ledger:
        assert ledger.trials() == WHOLE
        add(ledger, 60, audited_from=5)
    assert caplog.text.count(f"upgraded from schema 2 to 3; as it was: {old}.v2") == 1
    assert read_ledger(f"{old}.v2", check=True).trials == WHOLE
    with Ledger(old, DEFINITION) as ledger:
        assert ledger.trials() == [*WHOLE, replace(trial(60), audited_from=5)]
    with closing(sqlite3.connect(old)) as db:
        db.execute("UPDATE trials SET audited_from = NULL WHERE number = 60")
        db.commit()
    with pytest.raises(TrackingError, match="rows have changed"):
        Ledger(old, DEFINITION)


def test_b15_a_newer_ledger_is_refused(made: Path) -> None:
    """B15: named, not touched."""
    with closing(sqlite3.connect(made)) as db:
        db.execute("UPDATE meta SET value = '4' WHERE key = 'schema_version'")
        db.commit()
    with pytest.raises(TrackingError) as caught:
        Ledger(made, DEFINITION)
    assert caught.value.exit_code == 5
    assert "schema 4" in str(caught.value) and "schema 3 or older" in str(caught.value)


def test_b12_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B12: SQLite's locks do not hold there; PostgreSQL is named."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/export {tmp_path} nfs4 rw 0 0\n/dev/sda1 / ext4 rw 0 0\n")
    found = file_systems.network_file_system(tmp_path / "ledger.db", str(mounts))
    assert found == "nfs4"
    assert file_systems.network_file_system(Path("/elsewhere"), str(mounts)) is None
    monkeypatch.setattr(stores_of_ledger, "network_file_system", lambda path: found)
    with pytest.raises(TrackingError, match="not safe on a network file system") as caught:
        Ledger(tmp_path / "ledger.db", DEFINITION)
    assert "PostgreSQL" in str(caught.value)


LIMIT = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


def full(process: subprocess.Popen[str]) -> tuple[list[int], str]:
    """What it had printed as kept when the disk was full, and its last words."""
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0
    return [int(line) for line in out.split()], err


def goes_on(path: Path, acknowledged: list[int]) -> None:
    """With room again: all that was printed is there, and it can be written."""
    with Ledger(path, DEFINITION) as ledger:
        kept = ledger.trials()
        assert kept[: len(acknowledged)] == [trial(number) for number in acknowledged]
        add(ledger, len(kept))
        assert ledger.trials() == [*kept, trial(len(kept))]


@pytest.mark.parametrize("pages", range(1, 40, 3))
def test_b1_b5_the_disk_is_full_at_the_nth_write(tmp_path: Path, pages: int) -> None:
    """B1, B5: no file may grow past so many pages; whichever write that stops, nothing printed is lost."""
    path = tmp_path / "ledger.db"
    acknowledged, said = full(writer(path, before=LIMIT.format(limit=pages * 4096)))
    last = said[said.rindex("lanewise.errors.TrackingError: ") :]
    assert "the disk is full: the ledger cannot be written" in last and f"free space, then {CONTINUE}" in last
    goes_on(path, acknowledged)


@pytest.mark.parametrize("options", ["size=700k", "nr_inodes=4"])
def test_b1_b17_a_small_file_system(tmp_path: Path, options: str) -> None:
    """B1, B17: a real one that runs out of blocks, and of inodes."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        path = place / "ledger.db"
        acknowledged, said = full(writer(path))
        last = said[said.rindex("lanewise.errors.TrackingError: ") :]
        assert "the disk is full: the ledger cannot be written" in last and f"free space, then {CONTINUE}" in last
        for file in place.iterdir():
            if file.suffix != ".made":
                shutil.copy(file, tmp_path / file.name)
        if (tmp_path / "ledger.db").exists():
            goes_on(tmp_path / "ledger.db", acknowledged)
        assert acknowledged or "inodes" in options
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a13_a_run_whose_study_was_taken_over_writes_no_more(made: Path) -> None:
    """A13: its lock file was deleted and another run began; the fence in the ledger keeps it out."""
    from lanewise.errors import StudyHeldError

    with Ledger(made, DEFINITION) as old:
        made.with_name("ledger.db.lock").unlink()
        with Ledger(made, DEFINITION) as new:
            add(new, 60)
            with pytest.raises(StudyHeldError, match="has taken this study over"):
                add(old, 61)
            assert read_trials(made) == [*WHOLE, trial(60)]
            assert replace(trial(60)) == new.trials()[60]
