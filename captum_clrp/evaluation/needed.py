"""What the evaluation needs besides the library; imported before anything that uses it."""

from importlib.util import find_spec

from captum_clrp.errors import how_to_install

for _package in ("torchmetrics", "scipy", "platformdirs"):
    if find_spec(_package) is None:
        raise ImportError(f"captum_clrp.evaluation needs {_package}; {how_to_install('eval')}")
