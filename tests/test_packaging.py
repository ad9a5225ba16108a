"""What a user downloads: the README's quick start, the version, the wheel and the sdist."""

import configparser
import datetime
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import captum_clrp

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "captum_clrp"

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.cfg").exists(), reason="tests run apart from the checkout: nothing to build"
)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def quick_start() -> list[str]:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.lstrip().startswith("pip install")]


def test_readme_has_one_line_for_the_main_job_and_one_for_the_tests() -> None:
    main_job, tests = quick_start()
    assert re.fullmatch(r'pip install "\.\[\w+\]" && captum-clrp explain[^&|;]*', main_job)
    assert re.fullmatch(r'pip install "\.\[\w+\]" && pytest[^&|;]*', tests)


def test_readme_installs_extras_that_exist() -> None:
    extras = {re.search(r"\[(\w+)\]", line)[1] for line in quick_start()}
    assert extras <= set(setup_cfg()["options.extras_require"])


def test_everything_else_installs_from_a_checkout_too() -> None:
    """There is no release: what code and pages say to run must be what the README says."""
    texts = [p for folder in ("captum_clrp", "docs", "tutorials", "benchmarks") for p in (ROOT / folder).rglob("*")]
    texts += [*ROOT.glob("*.md"), *(ROOT / "upstream").glob("*.py")]
    texts = [p for p in texts if p.suffix in (".py", ".md", ".ipynb") and "_build" not in p.parts]
    named: set[str] = set()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"captum[-_]clrp\[", text), f"{path} names a package that cannot be had"
        named.update(re.findall(r'pip install (?:-e )?\\?"\.\[(\w+)\]', text))
        named.update(re.findall(r"how_to_install\(['\"](\w+)", text))
    assert {"eval", "app", "coco"} <= named <= set(setup_cfg()["options.extras_require"])


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    # VGG16's weights cannot be had offline: a smaller network of the same family stands in for it.
    monkeypatch.setattr(torchvision.models, "vgg16", lambda weights: torchvision.models.vgg11())
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    names: dict[str, torch.Tensor] = {}
    exec(code, names)
    assert names["zebra"].shape == (1, 3, 224, 224)
    assert names["zebra"].max() > 0
    torch.testing.assert_close(names["both"][:, 0], names["zebra"])


def test_ci_takes_the_quick_start_from_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    installs = [line for line in script.splitlines() if line.lstrip().startswith("pip install")]
    assert installs == []


def test_version_is_written_once() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: captum_clrp.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", captum_clrp.__version__)
    definition = re.compile(r"^__version__\s*(:\s*str\s*)?=", re.MULTILINE)
    sources = [p for p in PACKAGE.rglob("*.py") if definition.search(p.read_text(encoding="utf-8"))]
    assert sources == [PACKAGE / "__init__.py"]


def test_changelog_is_dated_and_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+)\](?: - (\S+))?$", text, re.MULTILINE)
    assert len(headings) == text.count("\n## ")
    if headings[0][0] == "Unreleased":
        headings = headings[1:]
    releases = [tuple(int(part) for part in name.split(".")) for name, _ in headings]
    dates = [datetime.date.fromisoformat(date) for _, date in headings]
    assert releases == sorted(set(releases), reverse=True)
    assert dates == sorted(dates, reverse=True)
    current = tuple(int(part) for part in captum_clrp.__version__.split(".")[:3])
    assert releases[:1] <= [current]  # either the newest release, or what the next one will be called


def test_core_dependencies_are_four() -> None:
    required = setup_cfg()["options"]["install_requires"].split()
    names = {re.split(r"[<>=!~]", requirement)[0] for requirement in required}
    assert names == {"captum", "numpy", "torch", "torchvision"}


def test_importing_the_package_needs_no_extra() -> None:
    extras = ["timm", "torchmetrics", "skimage", "zennit", "pycocotools", "hypothesis"]
    code = f"""
import sys
for name in {extras}:
    sys.modules[name] = None  # importing it fails
import captum_clrp, captum_clrp.cli
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(captum_clrp.__file__).parents[1])


def test_installed_copy_is_the_one_under_test() -> None:
    try:
        distribution = importlib.metadata.distribution("captum_clrp")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("captum_clrp is not installed; the tests import the checkout")
    assert distribution.version == captum_clrp.__version__
    if '"editable": true' in (distribution.read_text("direct_url.json") or ""):
        pytest.skip("captum_clrp is installed in editable mode; the tests import the checkout")
    installed = Path(str(distribution.locate_file("captum_clrp")))
    assert Path(captum_clrp.__file__).parent.samefile(installed)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist, and the wheel built from that sdist; both from a copy, so that the checkout stays clean."""
    pytest.importorskip("build")
    work = tmp_path_factory.mktemp("packaging")
    source, dist = work / "source", work / "dist"
    unwanted = shutil.ignore_patterns(".git", ".*cache", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def package_files() -> set[str]:
    """Every file of the package in the checkout, relative to the root."""
    found = (p for p in PACKAGE.rglob("*") if p.is_file())
    return {str(p.relative_to(ROOT)) for p in found if "__pycache__" not in p.parts}


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package(built: tuple[Path, Path]) -> None:
    _, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"captum_clrp/py.typed", "captum_clrp/__init__.py"} <= names
    assert any(re.fullmatch(r"captum_clrp/data/.+\.(png|jpg)", name) for name in names)
    assert package_files() == {name for name in names if name.startswith("captum_clrp/")}
    assert {name.split("/")[0] for name in names} == {"captum_clrp", f"captum_clrp-{captum_clrp.__version__}.dist-info"}


@pytest.mark.slow
def test_sdist_can_be_tested_and_documented(built: tuple[Path, Path]) -> None:
    sdist, _ = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= names
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "ruff.toml", "tests/helpers/oracles.py", ".ci/run"}
    assert wanted <= names


@pytest.mark.slow
def test_wheel_runs_by_itself(built: tuple[Path, Path], tmp_path: Path) -> None:
    _, wheel = built
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet"]
    subprocess.run([*install, "--target", str(tmp_path), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    where = "import captum_clrp; print(captum_clrp.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(shown.stdout.strip()).is_relative_to(tmp_path)
    script = tmp_path / "bin" / ("captum-clrp.exe" if os.name == "nt" else "captum-clrp")
    for command in ([str(script)], [sys.executable, "-m", "captum_clrp"]):
        done = subprocess.run([*command, "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "explain" in done.stdout
