import os
import subprocess
import sys

import pytest

import captum_clrp
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


def test_python_m_does_the_same(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "captum_clrp", "explain", "nowhere.jpg"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("captum-clrp: there is no picture nowhere.jpg")
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
