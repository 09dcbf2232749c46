"""Update rules of optimizers: they change their operands, and tests/test_optim.py tests them."""
from fusetorch.ops.opdef import REGISTRY

SAMPLES: dict = {}
ORACLES: dict = {}
ELSEWHERE = {name for name, op in REGISTRY.items() if op.writes}
