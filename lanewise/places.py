"""Where a study's runs, results and ledger are kept: its section `tracking`, checked before anything is opened."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, model_validator

from lanewise.fields import Real, Section, Text, wrong


class Tracking(Section):
    """Where runs and intermediate results are kept."""

    uri: Text = Field(
        default="sqlite:///mlruns/mlflow.db", repr=False,
        description="MLflow tracking address; a relative SQLite path starts at the working directory.",
    )  # fmt: skip
    home: Text = Field(
        default=".lanewise", description="Folder of stage results, the ledger and the sealed test rows."
    )
    ledger: Text = Field(
        default="auto", repr=False,
        description="Where what the trials did is kept: auto, a SQLite file in `home`; or postgresql://USER@HOST/DB.",
    )  # fmt: skip
    checkpoint_seconds: Real = Field(
        default=30.0, ge=0,
        description="Lanes of a search are kept this often, so that a crash costs no more; 0: never.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> Tracking:
        if self.ledger != "auto" and not self.ledger.startswith("postgresql://"):
            raise wrong(
                "this is no place for the ledger", "auto, or an address postgresql://USER@HOST/DATABASE",
                "leave it out for a SQLite file in `home`", "ledger",
            )  # fmt: skip
        if self.ledger != "auto" and _database(self.ledger) == _database(self.uri):
            raise wrong(
                "the ledger and MLflow name the same database", "a database each: what is put back from a backup of"
                " one must not take the other back", "name another in `tracking.ledger`", "ledger",
            )  # fmt: skip
        return self


def _database(address: str) -> tuple[str, str | None, int, str]:
    """What an address leads to, whoever logs in and by which driver."""
    parts = urlsplit(address)
    scheme = parts.scheme.partition("+")[0]
    try:
        port = parts.port
    except ValueError:
        port = None
    return scheme, parts.hostname, port or 5432, parts.path
