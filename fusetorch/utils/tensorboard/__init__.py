"""``torch.utils.tensorboard``: writes what a run measures into files that TensorBoard shows. It needs the package ``tensorboard``, whose
event files and messages it writes; without it, importing this raises ``ModuleNotFoundError``, as in PyTorch."""
try:
    from tensorboard.summary.writer.record_writer import RecordWriter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: torch.utils.tensorboard needs the package tensorboard; install it with "
                              "'pip install tensorboard'", name=error.name) from None

from .writer import FileWriter, SummaryWriter

__all__ = ["FileWriter", "RecordWriter", "SummaryWriter"]
