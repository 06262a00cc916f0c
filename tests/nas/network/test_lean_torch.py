from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nas.network import lean_torch


@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD"])
def test_lean_optimisers_take_the_very_steps_of_torch(name: str) -> None:
    ends = []
    for room in (torch.optim, lean_torch):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(5, 3))
        optimiser = getattr(room, name)([weight], lr=0.1, weight_decay=1e-2)
        for _ in range(4):
            loss = (weight.sin() ** 2).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            assert torch.is_grad_enabled()
        ends.append(weight.detach().clone())
    assert torch.equal(*ends)


def test_training_does_not_load_the_compiler() -> None:
    code = (
        "import sys, torch; from nas.network import lean_torch; w = torch.nn.Parameter(torch.ones(2)); o = lean_torch.AdamW([w]);"
        "o.zero_grad(); w.sum().backward(); o.step(); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
