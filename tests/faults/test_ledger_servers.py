"""The ledger in PostgreSQL: restarted, away, full, refused; and many writers on both stores (C7 to C10, H2, H3)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from after_a_crash import lanewise
from postgres import Postgres
from test_ledger_files import DEFINITION, WHOLE, add, trial

from lanewise.errors import StudyHeldError, TrackingError
from lanewise.ledger import Ledger, read_ledger, read_trials
from lanewise.ledger import postgres as postgres_of_ledger

WRITERS, TRIALS = 32, 6

pytestmark = pytest.mark.slow


def test_it_keeps_what_the_file_keeps(postgres: Postgres) -> None:
    with Ledger(postgres.url, DEFINITION, "s/one") as ledger:
        for number in range(60):
            add(ledger, number)
        assert ledger.settle("lanes", 8) == 8
    with Ledger(postgres.url, DEFINITION, "s/one") as ledger:
        assert ledger.trials() == WHOLE
        assert ledger.settle("lanes", 9) == 8
        assert len(ledger.reports(3)) == 10 and ledger.ticks() == [float(n) for n in range(60)]
    assert read_ledger(postgres.url, "s/other").trials == [], "studies do not see each other"


def test_b14_a_database_from_before_audits_is_upgraded_under_studies_that_run(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """B14, on a server: the sums of studies that were written before it hold, and readers need not wait for it."""
    with Ledger(postgres.url, DEFINITION, "s/old") as ledger:
        for number in range(60):
            add(ledger, number)
    with psycopg.connect(postgres.url) as db:
        db.execute("ALTER TABLE lanewise.trials DROP COLUMN audited_from")
        db.execute("UPDATE lanewise.meta SET value = '2' WHERE key = 'schema_version'")
    assert read_ledger(postgres.url, "s/old", check=True).trials == WHOLE
    with Ledger(postgres.url, DEFINITION, "s/new") as ledger:
        add(ledger, 0, audited_from=3)
        assert read_ledger(postgres.url, "s/old", check=True).trials == WHOLE
    assert caplog.text.count("upgraded from schema 2 to 3") == 1
    with Ledger(postgres.url, DEFINITION, "s/old") as ledger:
        assert ledger.trials() == WHOLE
    assert [t.audited_from for t in read_trials(postgres.url, "s/new")] == [3]
    assert caplog.text.count("upgraded from schema 2 to 3") == 1


def test_a_changed_row_is_found(postgres: Postgres) -> None:
    """B8, on a server."""
    with Ledger(postgres.url, DEFINITION, "s/changed") as ledger:
        add(ledger, 0)
    with psycopg.connect(postgres.url) as db:
        db.execute("UPDATE lanewise.reports SET train_loss = 9 WHERE study = 's/changed' AND epoch = 2")
    with pytest.raises(TrackingError, match="is damaged"):
        Ledger(postgres.url, DEFINITION, "s/changed")


def test_one_process_at_a_time(postgres: Postgres) -> None:
    """H1: by a lock that the server gives back when the process is gone."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"""
import sys, time
sys.path[:0] = {sys.path!r}
from test_ledger_files import DEFINITION
from lanewise.ledger import Ledger
ledger = Ledger({postgres.url!r}, DEFINITION, "s/held")
print("held", flush=True)
time.sleep(60)
"""], stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(StudyHeldError, match=f"held by process {holder.pid} on") as caught:
        Ledger(postgres.url, DEFINITION, "s/held")
    assert caught.value.exit_code == 75
    holder.kill()
    holder.communicate()
    deadline = time.monotonic() + 10
    while True:
        try:
            Ledger(postgres.url, DEFINITION, "s/held").close()
            break
        except StudyHeldError:  # the server has not noticed yet
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_c7_restarted_in_the_middle(postgres: Postgres) -> None:
    """C7: `pg_ctl -m immediate restart`; the run goes on, and nothing is there twice."""
    with Ledger(postgres.url, DEFINITION, "s/restarted") as ledger:
        for number in range(60):
            if number in (20, 40):
                postgres.stop("immediate")
                threading.Timer(1.0, postgres.start).start()
            add(ledger, number)
        assert ledger.trials() == WHOLE
    with Ledger(postgres.url, DEFINITION, "s/restarted") as ledger:
        assert ledger.trials() == WHOLE


def test_c8_away_for_too_long(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """C8: an error that can be resumed; the wait is shortened here."""
    monkeypatch.setattr(postgres_of_ledger, "PATIENCE_S", 1.0)
    with Ledger(postgres.url, DEFINITION, "s/away") as ledger:
        add(ledger, 0)
        postgres.stop()
        try:
            with pytest.raises(TrackingError, match="the ledger's database cannot be used") as caught:
                add(ledger, 1)
            assert caught.value.exit_code == 5 and "run the same command again" in str(caught.value)
        finally:
            postgres.start()
    with Ledger(postgres.url, DEFINITION, "s/away") as ledger:
        assert ledger.trials() == [trial(0)]
        add(ledger, 1)


def test_c9_no_connection_is_free(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """C9: it waits until there is one, and says why."""
    taken: list[psycopg.Connection] = []
    with pytest.raises(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(postgres.url))
    threading.Timer(1.0, lambda: [connection.close() for connection in taken]).start()
    with Ledger(postgres.url, DEFINITION, "s/crowded") as ledger:
        add(ledger, 0)
    assert "too many clients already; trying again" in caplog.text


def test_c10_serialisation_failures_and_deadlocks_are_tried_again(postgres: Postgres) -> None:
    """C10: two sessions that take the same rows in opposite order; the server ends one of them."""
    one, two = (postgres_of_ledger.PostgresStore(postgres.url) for _ in range(2))
    one.make()
    for key in "ab":
        one.write(lambda run, key=key: run("INSERT INTO meta VALUES ('deadlock', ?, '0')", (key,)))
    both = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def take(store: postgres_of_ledger.PostgresStore, order: str) -> None:
        def work(run) -> None:
            tries.append(order)
            for key in order:
                run("UPDATE meta SET value = (value::int + 1)::text WHERE study = 'deadlock' AND key = ?", (key,))
                if key == order[0] and tries.count(order) == 1:
                    both.wait()

        store.write(work)

    other = threading.Thread(target=take, args=(two, "ba"))
    other.start()
    take(one, "ab")
    other.join()
    rows = one.read(lambda run: run("SELECT key, value FROM meta WHERE study = 'deadlock' ORDER BY key"))
    assert rows == [("a", "2"), ("b", "2")] and len(tries) == 3
    one.close()
    two.close()


def test_a_refused_login_is_said_at_once_and_shows_no_password(postgres: Postgres) -> None:
    """C6, S12, for the ledger's database."""
    hba = postgres.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    postgres.stop("fast")
    postgres.start()
    try:
        url = postgres.url.replace("@", ":CANARY_9f3@")
        begun = time.monotonic()
        with pytest.raises(TrackingError, match="refuses the login") as caught:
            Ledger(url, DEFINITION, "s/refused")
        assert "CANARY_9f3" not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"
        assert "***" in str(caught.value) and time.monotonic() - begun < 60
    finally:
        hba.write_text(before)
        postgres.stop("fast")
        postgres.start()


def test_a_whole_run_over_a_server_that_is_restarted(
    tmp_path: Path, postgres: Postgres, server: dict[str, str], start_lanewise: Callable[..., subprocess.Popen[str]]
) -> None:
    """A1, C7: killed, continued while PostgreSQL is restarted, and the same trials as in a file."""
    in_file = lanewise(tmp_path / "file", server, "search")
    assert in_file.returncode == 0, in_file.stderr
    folder, place = tmp_path / "server", f"tracking.ledger={postgres.url}"
    killed = lanewise(folder, server, "search", "--set", place, LANEWISE_FAULT="after_tell:3:KILL")
    assert killed.returncode == -signal.SIGKILL
    postgres.stop("immediate")
    threading.Timer(3.0, postgres.start).start()
    done = lanewise(folder, server, "resume", "--set", place)
    assert done.returncode == 0, done.stderr
    (rows,) = folder.glob(".lanewise/studies/tiny/rows-*")
    assert not (rows / "ledger.db").exists()
    found = [replace(t, seconds=0) for t in read_trials(postgres.url, f"tiny/{rows.name}")]
    (ledger,) = (tmp_path / "file").glob(".lanewise/studies/tiny/rows-*/ledger.db")
    assert found == [replace(t, seconds=0) for t in read_trials(ledger)]
    checked = lanewise(folder, server, "verify", "--set", place)
    assert checked.returncode == 0, checked.stdout
    copied = lanewise(folder, server, "export-optuna", "--set", place)
    assert copied.stdout == f"16 trials: optuna-dashboard sqlite:///{rows / 'optuna.db'}\n", copied.stderr


# Forked from one process that has imported everything: it is the writing that is tried, and 32 imports take a minute.
WRITERS_CODE = """
import os, random, sys, time, traceback
sys.path[:0] = {path!r}
import psycopg
from test_ledger_files import DEFINITION, add
from lanewise.errors import StudyHeldError
from lanewise.ledger import Ledger

def write(study):
    for turn in range({turns}):
        while True:  # one study is written by one process at a time: they take turns
            try:
                ledger = Ledger({where!r}, DEFINITION, study)
                break
            except StudyHeldError:
                time.sleep(random.uniform(0.05, 0.3))
        with ledger:
            number = len(ledger.trials())
            if number < {budget}:
                add(ledger, number)

for study in {studies!r}:
    if os.fork() == 0:
        code = 1
        try:
            write(study)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
ends = [os.wait()[1] for _ in {studies!r}]
sys.exit(sum(end != 0 for end in ends))
"""


def write_together(where: str, studies: list[str], turns: int, budget: int) -> None:
    code = WRITERS_CODE.format(path=sys.path, where=where, turns=turns, budget=budget, studies=studies)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_h3_32_processes_write_one_store(kind: str, tmp_path: Path, postgres: Postgres) -> None:
    """H2, H3: 32 first starts at once on one database, a study each, 10 reports a trial: all of it, exactly."""
    where = str(tmp_path / "shared.db") if kind == "sqlite" else postgres.url
    studies = [f"many-{n}" for n in range(WRITERS)]
    write_together(where, studies, TRIALS, TRIALS)
    for study in studies:
        found = read_ledger(where, study, check=True)
        assert found.trials == WHOLE[:TRIALS] and not found.running


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_h3_32_processes_write_one_study(kind: str, tmp_path: Path, postgres: Postgres) -> None:
    """H2, H3: 32 processes take turns on one study; its budget is met exactly."""
    where = str(tmp_path / "one.db") if kind == "sqlite" else postgres.url
    write_together(where, ["together"] * WRITERS, 2, 40)
    assert read_trials(where, "together") == WHOLE[:40]
