"""What is measured: models, units, protocols, trials, observers, and the study folder that holds them.

Nothing heavy is imported here, so that ``import benchmark`` and ``vimi --help`` stay instant; torch, pandas
and timm are loaded by the modules that need them.
"""

__version__ = "0.1.0"
