"""The commands under ``benchmarks/`` are not part of the package: find them in the checkout."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
