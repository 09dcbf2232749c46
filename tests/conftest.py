"""Fixtures for all tests."""
from __future__ import annotations

import pytest

from fusetorch import config


@pytest.fixture(autouse=True, scope="session")
def verified_ir():
    """Every graph that any test makes is verified after each stage."""
    with config.override(verify_ir=True):
        yield
