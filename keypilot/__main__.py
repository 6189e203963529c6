"""``python -m keypilot``: the command line."""

import sys

from keypilot.cli import main

sys.exit(main())
