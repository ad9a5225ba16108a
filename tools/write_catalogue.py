"""Write down which metrics, datasets and methods there are, for the help of ``captum-clrp evaluate``.

    python tools/write_catalogue.py

The help is read from that file so that it need not wait for torch; a test says when it is out of date.
"""

from __future__ import annotations

import json

from captum_clrp.cli.evaluate import CATALOGUE, catalogue

if __name__ == "__main__":
    CATALOGUE.write_text(json.dumps(catalogue(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
