"""Names become folders and models: what passes stays inside its folder (S14)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from lanewise.errors import StudyError
from lanewise.names import is_name, path_inside
from lanewise.study import Study

# Everything that has ever been a way out of a folder, mixed with what a name may hold.
PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "~", "\0", "\n", " ", "%2e", "a", "B7", "_", "-", "é", "\uff0e\uff0e", ":", "C:"]
)
TEXTS = st.one_of(st.text(max_size=120), st.lists(PIECES, max_size=6).map("".join))


@given(TEXTS)
@example("a\n")
@example("..")
@example("a..b")
@example("." * 3)
@example("x" * 101)
def test_a_path_of_a_name_is_the_folder_s_own_child_or_an_error(text: str) -> None:
    root = Path("/nowhere/home")
    try:
        path = path_inside(root, text)
    except StudyError:
        assert not is_name(text)
        return
    assert path.parent == root and path.name == text
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text) and ".." not in text and text[0] not in ".-"


@given(TEXTS)
def test_a_study_takes_the_same_names(text: str) -> None:
    try:
        Study.model_validate({"name": text, "data": {"source": "sklearn:iris"}})
    except ValidationError:
        assert not is_name(text)
    else:
        assert is_name(text)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "study").symlink_to(tmp_path)
    with pytest.raises(StudyError, match="leaves its folder"):
        path_inside(tmp_path / "home", "study")
