"""What the examples share: their arguments, the digits, and the check of the result that they promise."""
import argparse
import sys

import torch


def arguments(steps, small):
    """Reads the command line; ``steps`` is how many training steps to take (``small`` of them with ``--small``)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=steps, help="training steps")
    parser.add_argument("--small", action="store_true", help=f"only {small} steps, and a lower promise")
    parser.add_argument("--compile", action="store_true", help="compile the training step")
    given = parser.parse_args()
    if given.small:
        given.steps = small
    torch.manual_seed(0)
    return given


def digits():
    """scikit-learn's 1797 handwritten digits: training images (N, 64) in [0, 1], their labels, test images, their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    train, test = order[:1500], order[1500:]
    return images[train], labels[train], images[test], labels[test]


def conclude(what, value, at_least=None, at_most=None):
    """Prints the result, and ends the program with exit code 1 if it is not what the example promises."""
    bound = f"at least {at_least}" if at_most is None else f"at most {at_most}"
    reached = value >= at_least if at_most is None else value <= at_most
    print(f"{what}: {value:.4f} (promised: {bound})")
    sys.exit(0 if reached else 1)
