"""What is measured: models, units, protocols, trials, observers, and the study folder that holds them.

Nothing heavy is imported here, so that ``import benchmark`` and ``vimi --help`` stay instant; torch, pandas
and timm are loaded by the modules that need them.
"""

import os

# Read by OpenMP when torch is loaded: waiting threads sleep. By default they spin, which on a machine that others use
# costs several times the processor time of the work itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
