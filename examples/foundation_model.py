"""A foundation model, `--baselines examples.foundation_model:Pretrained`, in Chronos' form; this one is tiny and random."""

import numpy as np
import torch

from data import Panel


class TinyPipeline(torch.nn.Module):
    """What `BaseChronosPipeline.from_pretrained(...)` would be: quantiles and mean of the next values, row by row of the context."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.GRU(1, 8, batch_first=True)
        self.head = torch.nn.Linear(8, 1)

    def predict_quantiles(
        self, context: torch.Tensor, prediction_length: int, quantile_levels: list[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """context [row, time] -> ([row, step, quantile], mean [row, step])."""
        scale = context.std(1, keepdim=True).clamp_min(1e-9)
        step = scale * self.head(self.network(((context - context[:, -1:]) / scale)[..., None])[1][0])
        mean = context[:, -1:] + step * torch.arange(1, prediction_length + 1)
        return torch.stack([mean] * len(quantile_levels), 2), mean


class Pretrained:
    """Zero-shot: `fit` loads the weights and learns nothing; a forecast reads the last 64 closes."""

    horizon = 1  # set to that of the run

    def fit(self, panel: Panel, train: slice, validation: slice) -> None:
        self.pipeline = TinyPipeline().eval()

    def forecast(self, panel: Panel, start: int, stop: int) -> np.ndarray:
        """Log returns over the horizon [stop - start, asset]."""
        close = torch.from_numpy(np.log(panel.field("close"))).float()
        windows = close.unfold(0, 64, 1)[start - 63 : stop - 63]  # [bar, asset, 64], the last one its own bar
        with torch.no_grad():
            told = [self.pipeline.predict_quantiles(bar, self.horizon, [0.5])[1][:, -1] - bar[:, -1] for bar in windows]
        return torch.stack(told).double().numpy()
