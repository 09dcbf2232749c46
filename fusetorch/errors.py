"""Error classes beyond Python's own. PyTorch's classes are kept: these subclass what PyTorch would raise."""
from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any


class FusetorchError(RuntimeError):
    """Base of the errors that only fusetorch raises."""


class CudaUnavailableError(FusetorchError):
    """A ``cuda`` device was asked for and none can be used; the message says what is missing and how to get it."""


class CompileError(FusetorchError):
    """A kernel or plan could not be compiled; the message names it and where its source was written."""


class TorchDynamoException(FusetorchError):  # noqa: N818 - PyTorch's name
    """Base of what ``torch.compile`` raises beside the program's own errors; offered in ``torch._dynamo.exc``, as the next two are."""


class Unsupported(TorchDynamoException):  # noqa: N818
    """Something that cannot be traced where it must be (``fullgraph=True``)."""


class InvalidBackend(TorchDynamoException):  # noqa: N818
    """``torch.compile`` was given the name of a backend that does not exist."""


class DataDependentError(Unsupported):
    """A traced function needed a tensor's value (``.item()``, ``if tensor``) while ``fullgraph=True``."""


class VerifyError(FusetorchError):
    """An IR graph breaks an invariant; the message names the node and the pass that left it so."""


class LinAlgError(RuntimeError):
    """A matrix has no such factor, inverse or solution; offered as ``torch.linalg.LinAlgError``."""


class NoTritonType(NotImplementedError):
    """A kernel was asked to work on a dtype that Triton does not have (complex numbers)."""


def refusal(name: str, error: type[Exception], message: str) -> Callable[..., Any]:
    """A function of any arguments that raises ``error(message)``: it stands for one that cannot be offered."""
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error(message)
    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Raises ``{error.__name__}``: {message}"
    return refuse


_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line of the program that called into the package, however deep inside the reason was found."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((_HERE, "<fusetorch")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
