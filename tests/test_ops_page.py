"""``docs/ops.md`` is what ``tests/ops_page.py`` makes."""
from __future__ import annotations

import ops_page


def test_page_is_fresh():
    assert ops_page.PAGE.read_text() == ops_page.page(), "docs/ops.md is stale: run python tests/ops_page.py"


def test_page_names_what_is_public():
    text = ops_page.page()
    for name in ("torch.add", "Tensor.add_", "nn.functional.gelu", "linalg.norm", "`Conv2d`", "`Adam`"):
        assert name in text
