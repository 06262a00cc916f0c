"""How much a market will move: closed forms against the usual average, on bars that none of them was fitted on."""

import numpy as np
from matplotlib.figure import Figure

from data import load_panel
from nas.targets.rivals import forecast_by
from nas.targets.target import get_target

HORIZON, FIRST = 6, 3_000  # hours ahead; bars before are fitted on
panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-08-01", source="simulated")
target = get_target("range")
label = target.label(panel, HORIZON)[0, FIRST:]  # the log of the range volatility that came
forecasts = {"the usual average": target.naive(panel, HORIZON)[0, FIRST:]}
forecasts |= {name: forecast_by(name, panel, target, HORIZON, [FIRST])[0, FIRST:] for name in ("har", "harx")}

picture = Figure(figsize=(9, 3.2), layout="constrained")
axis = picture.add_subplot()
axis.plot(np.exp(label[-400:]), color="#c9ccd1", label="came")
for name, forecast in forecasts.items():
    known = np.isfinite(label) & np.isfinite(forecast)
    error = np.mean((label - forecast)[known] ** 2)
    print(f"{name}: mean squared error {error:.3f}")
    axis.plot(np.exp(forecast[-400:]), lw=1.2, label=f"{name}, error {error:.3f}")
axis.set(title="Volatility of the next 6 hours, and what was said of it", xlabel="bars", ylabel="per hour")
axis.legend(frameon=False, ncols=4)
