"""What contributors run, each in an environment of its own: ``pip install nox``, then ``nox --list``.

In an environment that has everything (``pip install -e ".[test]"``), ``nox --no-venv -s tests`` saves the installation.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *packages: str) -> None:
    """Nothing with ``--no-venv``: the environment has what is needed."""
    if session.venv_backend != "none":
        session.install(*packages)


@nox.session
def tests(session: nox.Session) -> None:
    """All but the slow tests; arguments go to pytest: ``nox -s tests -- tests/test_rules.py -x``."""
    install(session, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Notebooks, packages, whole commands, several processes."""
    install(session, "-e", ".[test]")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format; ``nox -s lint -- --fix`` mends what can be."""
    install(session, "ruff>=0.9")
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package."""
    install(session, "-e", ".[eval]", "mypy>=1.11")
    session.run("mypy", "captum_clrp", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, warnings as errors, in ``docs/_build/html``."""
    install(session, "-e", ".[docs]")
    session.run("sphinx-build", "-W", "docs", "docs/_build/html", *session.posargs)


@nox.session
def upstream(session: nox.Session) -> None:
    """The changes for Captum, on a copy of it."""
    install(session, "-e", ".[upstream]")
    session.run("python", "upstream/check.py", *session.posargs)


@nox.session(python="3.10")
def oldest(session: nox.Session) -> None:
    """The tests with the lowest versions that setup.cfg allows. ``--force-python 3.11`` takes another interpreter."""
    lowest = Path(session.create_tmp(), "lowest.txt")
    session.install("uv")
    session.run(
        *("uv", "pip", "compile", "setup.cfg", "--resolution", "lowest-direct", "--no-deps", "--quiet"),
        *("--output-file", str(lowest)),
    )
    session.install("-c", str(lowest), ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lxt(session: nox.Session) -> None:
    """Agreement with LXT, which needs an older ``transformers`` and is not in the extra ``test``."""
    session.install("-e", ".[test]", "lxt>=2.1", "transformers<5")
    session.run("pytest", "-rs", "tests/benchmarks/test_lxt.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Whether tests notice small changes of the core: ``nox -s mutants -- --count 40 --seed 1 --processes 4``."""
    install(session, "-e", ".[test]")
    session.run("python", "tools/mutants.py", *session.posargs)
