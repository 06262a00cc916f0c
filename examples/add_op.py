"""A new op: one line registers it; the search, the trained network and the picture know it from then on."""

from matplotlib.figure import Figure

from data import load_panel
from nas import Op, register_op
from nas.search import search

# y[t] = x[t] - x[t-12]: constant coefficients at these lags; folded into the same matrix product as every other linear op
register_op(Op("diff12", "constant", "difference over 12 bars", lags=(0, 12), coefficients=(1.0, -1.0)))

panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-03-01", source="simulated")
found = search(
    panel, ops=("zero", "identity", "ema12", "diff12"), nodes=1, channels=4, epochs=6, alpha_learning_rate=0.1
)

print(found.text)
for (source, node), weights in zip(found.space.edges, found.op_weights, strict=True):
    print(f"edge {source} -> {node + 1}:", *(f"{op} {w:.2f}" for op, w in zip(found.space.ops, weights, strict=True)))

picture = Figure(figsize=(9, 2.2), layout="constrained")
axis = picture.add_subplot()
axis.barh(found.space.ops, found.op_weights[0])
axis.set(title="Weights of the ops on the first edge, after the search")
