"""`python -m t2ilab` is the command `t2ilab`."""
import sys

from .cli import main

sys.exit(main())
