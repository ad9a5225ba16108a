"""What the evaluation needs besides the library; imported before anything that uses it."""

from importlib.util import find_spec

for _package in ("torchmetrics", "scipy", "platformdirs"):
    if find_spec(_package) is None:
        raise ImportError(f"captum_clrp.evaluation needs {_package}; install it with: pip install 'captum-clrp[eval]'")
