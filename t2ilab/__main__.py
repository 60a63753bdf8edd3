"""`python -m t2ilab` is the command `t2ilab`."""
import sys

from .cli.commands import main

sys.exit(main())
