"""Conversion of nodes to volumes."""

from __future__ import annotations

import pytest
from slicer_window import add_study, model_folder, module, slicer, window  # noqa: F401

from DanteSegmenterLib.errors import InputError


def test_node_used_twice_is_refused_before_computing(slicer, window):
    nodes = add_study(slicer)
    with pytest.raises(InputError, match="is chosen as t1 and as t2; each needs a volume of its own"):
        window.logic.segment({**nodes, "t2": nodes["t1"]})
    assert not window.logic.inference.run.calls
