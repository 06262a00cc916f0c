"""One coin leads another by three hours: a search over both finds who, whom and by how much."""

import numpy as np
from matplotlib.figure import Figure

from data.simulated import MarketRecipe, simulate
from nas.search import search

begin = np.datetime64("2023-01-01", "ns")
planted = MarketRecipe(lead_lag_bars=3, lead_lag_strength=0.5)
panel = simulate(
    ["BTCUSDT", "ETHUSDT"], "60", start=begin, end=begin + np.timedelta64(2_500, "h"), seed=1, recipe=planted
)
found = search(
    panel,
    horizon=1,
    ops=("zero", "identity", "conv3", "lead_lag"),
    nodes=1,
    channels=4,
    epochs=8,
    alpha_learning_rate=0.1,
)
links = {(k.leader, k.follower, k.lag) for node in found.genotype.nodes for c in node for k in c.links}
print("BTCUSDT leads ETHUSDT by 3 hours:", "found" if ("BTCUSDT", "ETHUSDT", 3) in links else "missed")

returns = np.diff(np.log(panel.field("close")), axis=0)
lags = np.arange(-8, 9)
pairs = {lag: np.corrcoef(returns[8:-8, 0], np.roll(returns[:, 1], -lag)[8:-8])[0, 1] for lag in lags}
picture = Figure(figsize=(9, 3.2), layout="constrained")
left, right = picture.subplots(1, 2, width_ratios=(3, 2))
left.bar(lags, list(pairs.values()), color=["#d9822b" if lag == 3 else "#8a8f98" for lag in lags])
left.set(title="Correlation with the follower so many hours later", xlabel="hours after the leader")
right.barh(found.space.ops, found.op_weights[0], color="#3b6fb6")
right.set(title="Weights of the ops after the search")
