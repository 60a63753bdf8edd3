"""`python -m t2ilab.cli`, as `accelerate launch -m` wants it."""
import sys

from . import main

sys.exit(main())
