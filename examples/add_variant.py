"""A new search variant: hooks on the one loop. Here an entropy penalty that pushes every edge to one op (Tian et al. 2020)."""

from matplotlib.figure import Figure
from torch import Tensor

from data import load_panel
from nas import Variant, register_variant
from nas.search import search
from nas.search.supernet import Architecture


def entropy(architecture: Architecture, progress: float) -> Tensor:
    """Mean entropy of the op weights per edge, nats; its weight, in sizes of the gradient, grows linearly."""
    weights = architecture.op_weights().clamp_min(1e-9)
    return 5.0 * progress * -(weights * weights.log()).sum(-1).mean()


register_variant(
    Variant("entropy", "DARTS with entropy penalty", "Tian et al. 2020, arXiv 2007.03154", regulariser=entropy)
)

panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-03-01", source="simulated")
small = {"ops": ("zero", "identity", "conv3", "ema12"), "nodes": 1, "channels": 4, "epochs": 20}
picture = Figure(figsize=(9, 2.6), layout="constrained")
axis = picture.add_subplot(title="Entropy of the op weights, nats", xlabel="epochs")
for variant in ("darts", "entropy"):
    found = search(panel, variant=variant, alpha_learning_rate=0.1, **small)
    print(f"{variant}: entropy {found.history[-1]['entropy']:.2f} nats, {found.text}")
    axis.plot([row["entropy"] for row in found.history], label=variant)
axis.legend(frameon=False)
