"""An order book from its messages: a snapshot, then changes; what every state of it says."""

import numpy as np
from matplotlib.figure import Figure

from data.orderbook import OrderBook
from data.series import BOOK_COLUMNS

rng = np.random.default_rng(26)
ticks = np.arange(1, 26)
book = OrderBook(depth=50)
mid = 10_000
levels = np.column_stack
book.reset(levels([mid - ticks, 5.0 + 0 * ticks]), levels([mid + ticks, 5.0 + 0 * ticks]), u=1)
rows, flows = [], []
for update in range(2, 1_202):
    eager = np.sin(update / 150)  # buyers, then sellers: their side thickens
    price = rng.integers(1, 26, 2)
    size = rng.exponential([5.0 + 4.0 * eager, 5.0 - 4.0 * eager])
    book.change(np.array([[mid - price[0], size[0]]]), np.array([[mid + price[1], size[1]]]), update)
    rows.append(book.features())
    flows.append(book.take_flow()[0][0])
features = dict(zip(BOOK_COLUMNS, np.array(rows).T, strict=False))
flow = np.convolve(flows, np.ones(50), "valid")
names = [name for name in features if "imbalance" in name]
print(f"{len(rows)} changes, {len(features)} columns, {', '.join(names)}")

picture = Figure(figsize=(9, 3.2), layout="constrained")
left, right = picture.subplots(1, 2)
for name in names:
    left.plot(features[name], lw=0.8, label=name)
left.set(title="Imbalance of bids and asks", xlabel="changes of the book")
left.legend(frameon=False)
right.plot(flow, color="#d9822b")
right.set(title="Order flow at the best prices, sum of 50 changes", xlabel="changes of the book")
