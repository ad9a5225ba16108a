import gc
import os
import signal
import subprocess
import sys
import time

import pytest

import captum_clrp
from captum_clrp import cli
from captum_clrp.cli import main


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"captum-clrp {captum_clrp.__version__}\n"
    for arguments in (["--help"], ["explain", "--help"]):
        assert main(arguments) == 0
        captured = capsys.readouterr()
        assert "usage: captum-clrp" in captured.out
        assert captured.err == ""
    for option in ("--model", "--weights", "--target", "--method", "--output", "--device", "--conserve"):
        assert option in captured.out


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--no-such-option"]])
def test_what_is_no_command_is_one_line(capsys, arguments):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--help" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "cat.jpg", "--methods", "lrp"], "unrecognized arguments: --methods lrp; did you mean --method?"),
        (["serve", "--prot=80"], "unrecognized arguments: --prot=80; did you mean --port?"),
        (["evaluate", "grid", "--limt", "3"], "unrecognized arguments: --limt 3; did you mean --limit?"),
        (["explain", "cat.jpg", "--zzz"], "unrecognized arguments: --zzz; see captum-clrp explain --help"),
    ],
)
def test_a_mistyped_option_is_told_what_was_meant(capsys, arguments, says):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert says in err


def test_python_m_does_the_same(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "captum_clrp", "explain", "nowhere.jpg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env=environment(),
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("captum-clrp: there is no picture nowhere.jpg")
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_garbage_is_looked_for_while_libraries_are_imported(monkeypatch):
    """In the process of a command; called from Python, it leaves the collector as it is."""
    parser, looking = cli._parser, []
    monkeypatch.setattr(cli, "_parser", lambda: looking.append(gc.isenabled()) or parser())
    before = gc.get_freeze_count()
    main(["--version"])
    assert gc.get_freeze_count() == before
    monkeypatch.setattr(sys, "argv", ["captum-clrp", "--version"])
    try:
        main()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
    assert looking == [True, False]
    assert gc.isenabled()


def test_help_and_version_need_no_torch():
    code = """
import sys
sys.modules["torch"] = sys.modules["captum"] = sys.modules["matplotlib"] = None  # importing them fails
from captum_clrp.cli import main
assert [main(words.split()) for words in ("--version", "--help", "explain --help", "evaluate --help")] == [0, 0, 0, 0]
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment())


@pytest.mark.parametrize("wait", [0.4, 1.5])
@pytest.mark.parametrize("command", [["explain"], ["evaluate", "pointing", "--limit", "1"]], ids=lambda c: c[0])
def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path, wait, command):
    started = subprocess.Popen(
        [sys.executable, "-m", "captum_clrp", *command],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    time.sleep(wait)
    if started.poll() is not None:
        pytest.skip(f"a fast machine: the command was done after {wait} seconds")
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert err.splitlines()[-1].startswith("captum-clrp: interrupted; ")
    assert "Traceback" not in err


def test_every_public_name_is_at_home_where_the_package_says():
    assert set(dir(captum_clrp)) >= set(captum_clrp.__all__)
    for name in captum_clrp.__all__:
        assert getattr(captum_clrp, name) is not None
    named = {name for names in captum_clrp._HOMES.values() for name in names.split()}
    assert named | {"__version__"} == set(captum_clrp.__all__)
    assert captum_clrp.bounds.normalized_bounds is captum_clrp.normalized_bounds
    with pytest.raises(AttributeError, match="no attribute 'typo'"):
        _ = captum_clrp.typo


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
