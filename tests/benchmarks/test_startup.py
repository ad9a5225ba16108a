"""Fresh processes are timed, and the report says what they took."""

import json

import pytest

from benchmarks import startup


def test_a_process_is_timed_and_one_that_fails_is_told(tmp_path):
    busy = startup.timed(
        ("-c", "import time; a = time.process_time()\nwhile time.process_time() < a + 0.2: pass"), tmp_path
    )
    assert busy["clock"] > 0.19
    assert busy["processor"] > 0.19
    idle = startup.timed(("-c", "import time; time.sleep(0.2)"), tmp_path)
    assert idle["clock"] > 0.19
    assert idle["processor"] < busy["processor"]
    with pytest.raises(RuntimeError, match="nothing of the kind"):
        startup.timed(("-c", "raise SystemExit('nothing of the kind')"), tmp_path)


def test_rounds_are_counted_after_a_first_one():
    found = startup.measure({"one": ("-c", ""), "other": ("-c", "")}, rounds=2)
    assert {case: len(rounds) for case, rounds in found.items()} == {"one": 2, "other": 2}


def test_the_report_has_fastest_rounds_and_goals():
    seconds = {
        "captum-clrp --version": [{"clock": 0.3, "processor": 0.2}, {"clock": 0.2, "processor": 0.1}],
        startup.REFERENCE: [{"clock": 9.0, "processor": 4.0}],
        startup.EXPLAIN: [{"clock": 8.0, "processor": 7.0}, {"clock": 9.0, "processor": 5.0}],
    }
    text = startup.markdown(
        {"environment": startup.report.environment(), "command": "that", "rounds": 2, "seconds": seconds}
    )
    assert "| `captum-clrp explain` | 8.00 | 5.00 | 1.25 |" in text
    assert "at most" not in text  # goals are the project's own
    assert "takes 1.25 times" in text
    seconds[startup.EXPLAIN] = [{"clock": 8.0, "processor": 7.0}]
    *_, (_, measured, most) = startup.goals({case: startup.fastest(rounds) for case, rounds in seconds.items()})
    assert measured == 1.75 > most


def test_the_command_writes_both_files(tmp_path, capsys):
    arguments = ["--cases", "captum-clrp --version", "--rounds", "1", "--output", str(tmp_path)]
    assert startup.main(arguments) == 0
    document = json.loads((tmp_path / "startup-cpu.json").read_text())
    assert list(document["seconds"]) == ["captum-clrp --version"]
    text = (tmp_path / "startup-cpu.md").read_text()
    out = capsys.readouterr().out
    assert out.startswith(text)
    assert ", at most 1.00: met" in out.removeprefix(text)
    assert "python -m benchmarks.startup --cases 'captum-clrp --version' --rounds 1" in text
