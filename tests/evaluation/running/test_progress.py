"""The line that tells how far a run is."""

from __future__ import annotations

from typing import Any

import pytest

from captum_clrp.evaluation import Team
from captum_clrp.evaluation.running.progress import Progress


def test_the_leader_counts_for_all_and_never_beyond_the_end(capsys: Any) -> None:
    with Progress(10, 2, Team(0, 3), what="pictures") as progress:
        progress.add(2)  # with those of two others
        progress.add(2)
    line = capsys.readouterr().err.rpartition("\r")[2]
    assert line.startswith("pictures: 100%")
    assert "10/10" in line


def test_a_run_that_fails_does_not_say_that_it_is_done(capsys: Any) -> None:
    def fail() -> None:
        with Progress(10, 2, Team(0, 1)) as progress:
            progress.add(3)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert "5/10" in capsys.readouterr().err.rpartition("\r")[2]


@pytest.mark.parametrize(("rank", "quiet"), [(1, False), (0, True)])
def test_only_the_leader_speaks_if_anyone_does(rank: int, quiet: bool, capsys: Any) -> None:
    with Progress(10, 0, Team(rank, 2), quiet=quiet) as progress:
        progress.add(1)
    assert capsys.readouterr().err == ""
