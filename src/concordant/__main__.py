"""`python -m concordant` is the command line."""

import sys

from concordant.app.cli import main

sys.exit(main())
