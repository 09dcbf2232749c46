"""Samples and oracles of the operations, one file for each family in ``fusetorch/ops/``; found by being here.

A file offers ``SAMPLES`` (name to a function that makes a list of samples) and ``ORACLES`` (name to a NumPy function over float64
arrays), and where they apply the sets ``RANDOM``, ``ELSEWHERE`` (see ``op_samples.py``), ``NOT_TRACED``, ``CREATE``, ``NO_GRADIENT``,
``NO_HALVES`` and ``ONCE_ONLY`` (see ``test_definitions.py``).
"""

import importlib
import pkgutil

ALL = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
