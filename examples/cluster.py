"""Searches as tasks: measured on one core, then laid out over many; `--engine ray` hands the same tasks to a cluster."""

import heapq

from matplotlib.figure import Figure

from data import load_panel
from nas import Samples, SearchSettings, SearchSpace
from nas.tasks.engine import timed
from nas.tasks.windows import Window
from nas.tasks.work import SearchTask

panel = load_panel(["BTCUSDT"], "60", start="2024-01-01", end="2024-06-01", source="simulated")
samples = Samples.of(panel, horizons=(6,), features={"return": ("raw", "ewm32")})
space = SearchSpace(ops=("zero", "identity", "conv3", "ema4"), nodes=1, channels=4, horizons=(6,))
space = space.with_features(dict(zip(samples.bank.inputs, samples.bank.pipelines, strict=True)))
starts = range(samples.bank.warmup_bars, 1_700, 400)
windows = [
    Window(n, slice(s, s + 800), slice(s + 850, s + 1_150), slice(s + 1_200, s + 1_500), 50)
    for n, s in enumerate(starts)
]
tasks = [SearchTask(each, "darts", seed, space, SearchSettings(epochs=2)) for each in windows for seed in range(4)]
costs = [timed(task, samples).cpu_s for task in tasks]

picture = Figure(figsize=(9, 3.2), layout="constrained")
for axis, cores in zip(picture.subplots(1, 2, sharex=True), (1, 4), strict=True):
    free = [(0.0, core) for core in range(cores)]
    for task, seconds in zip(tasks, costs, strict=True):
        begin, core = heapq.heappop(free)
        axis.barh(core, seconds, left=begin, color=f"C{task.window.number}", edgecolor="white")
        heapq.heappush(free, (begin + seconds, core))
    axis.set(
        title=f"{len(tasks)} searches on {cores} core{'s' * (cores > 1)}, colour: window",
        xlabel="seconds",
        yticks=range(cores),
    )
print(
    f"{len(tasks)} searches of {len(windows)} windows: no task waits for another, the results are the same bytes anywhere"
)
