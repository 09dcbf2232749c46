"""The demonstration: ``python -m fusetorch.demo`` trains on real data, eagerly and compiled, compares, and writes a report.

Needs scikit-learn and rich: ``pip install 'fusetorch[demo]'``.
"""
