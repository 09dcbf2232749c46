"""Fixtures for all tests."""
from __future__ import annotations

import pytest

import fusetorch as torch
from fusetorch import config


@pytest.fixture(autouse=True, scope="session")
def verified_ir():
    """Every graph that any test makes is verified after each stage."""
    with config.override(verify_ir=True):
        yield


@pytest.fixture
def simulated():
    """The device ``cuda`` is simulated."""
    with config.override(simulate_cuda=True):
        yield


@pytest.fixture
def on_simulated_device(simulated):
    """And what names no device is made there."""
    pytest.importorskip("triton")
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)
