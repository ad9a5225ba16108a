"""``python -m captum_clrp`` does what the command ``captum-clrp`` does."""

import sys

from captum_clrp.cli import main

if __name__ == "__main__":
    sys.exit(main())
