"""``torch.utils.tensorboard``: not supported; importing it says what to do, with the error that PyTorch raises without TensorBoard."""

raise ImportError("torch.utils.tensorboard is not supported by fusetorch. Install tensorboardX and import SummaryWriter from it: it writes "
                  "the same files from Python numbers and NumPy arrays.")
