"""Errors of PyTorch's tracer, for programs that catch them."""
from __future__ import annotations

__all__ = ["BackendCompilerFailed", "InternalTorchDynamoError", "TorchDynamoException", "TorchRuntimeError", "Unsupported"]


class TorchDynamoException(RuntimeError):
    """Any of them."""


class InternalTorchDynamoError(TorchDynamoException):
    """A bug of the tracer."""


class Unsupported(TorchDynamoException):
    """Something that the tracer cannot trace."""


class TorchRuntimeError(TorchDynamoException):
    """An operation that fails while it is traced."""


class BackendCompilerFailed(TorchDynamoException):
    """A failure of the compiler proper."""
