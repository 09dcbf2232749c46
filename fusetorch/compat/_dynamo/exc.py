"""Errors of PyTorch's tracer, for programs that catch them."""
from __future__ import annotations

from fusetorch.errors import InvalidBackend, TorchDynamoException, Unsupported

__all__ = ["BackendCompilerFailed", "FailOnRecompileLimitHit", "InternalTorchDynamoError", "InvalidBackend", "RecompileError",
           "TorchDynamoException", "TorchRuntimeError", "Unsupported", "UserError"]


class InternalTorchDynamoError(TorchDynamoException):
    """A bug of the tracer."""


class TorchRuntimeError(TorchDynamoException):
    """An operation that fails while it is traced."""


class BackendCompilerFailed(TorchDynamoException):
    """A failure of the compiler proper."""


class RecompileError(TorchDynamoException):
    """A function was compiled again where that is forbidden."""


class FailOnRecompileLimitHit(TorchDynamoException):  # noqa: N818 - PyTorch's name
    """A function was compiled too often."""


class UserError(Unsupported):
    """A mistake of the program."""
