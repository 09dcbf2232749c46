"""``python -m fusetorch``: the command line."""
import sys

from fusetorch.cli import main

sys.exit(main())
