"""``torch.backends.mkl``: not used."""


def is_available() -> bool:
    """False: fusetorch does not use it."""
    return False
