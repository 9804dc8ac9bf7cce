"""`python -m energyprof` is the command `energyprof`."""

import sys

from energyprof.cli import main

sys.exit(main())
