"""Models that read open interest, premium, longer candles or other symbols: live features are the batch's, each once known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.bybit import Bybit
from data.history import History as Downloads
from data.market import load_bybit
from data.panel import InputError
from data.series import Rows, SeriesKey
from data.standin import StandIn
from strategies.paper.decisions.decide import decide, nothing_before
from strategies.paper.decisions.history import History
from strategies.paper.decisions.side_inputs import Companions
from strategies.paper.decisions.strategy import load_strategy
from strategies.paper.orders.connection import Unavailable
from strategies.paper.records.journal import Journal
from strategies.paper.replay import explain
from tests.data.moment import EAGER, HOUR, NOW
from tests.strategies.paper.rig import SYMBOL, Rig, bars_of, market_panel, rewrite, save_model

FEATURES = (
    ("return", "raw"), ("funding_rate", "raw"), ("open_interest", "ewm32"), ("premium", "zscore168"), ("long_ratio", "diff"),
    ("market_return", "ewm32"), ("leader_return", "raw"), ("market_beta", "raw"), ("body@240", "raw"), ("gap@D", "ewm32"),
)  # fmt: skip
OWN = tuple(f for f in FEATURES if "market" not in f[0] and "leader" not in f[0])
SYMBOLS = ("ETHUSDT", SYMBOL)
LAST = NOW // HOUR * HOUR
BARS = 300


def _live(
    folder: Path, exchange: StandIn, stops: list[int]
) -> tuple[History, Companions, list[tuple[int, np.ndarray]]]:
    """A history that grows bar by bar as the clock of the exchange does; features of the newest bar at each of `stops`."""
    save_model(folder / "m", market_panel(700), features=FEATURES, symbols=SYMBOLS)
    strategy = load_strategy(folder / "m", SYMBOL, "60")
    client, journal = Bybit(exchange.url, EAGER), Journal(folder / "journal.sqlite")
    companions = Companions(journal, client, strategy.companions)
    first = LAST - BARS * HOUR
    own = SeriesKey("linear", SYMBOL, "klines", "60")
    history = History((SYMBOL,), HOUR, (), companions.rows)
    seen = []
    for stop in stops:
        close = first + stop * HOUR
        exchange.world.clock.set(close + 5_000, speed=0)
        rows = client.page(own, first + history.count * HOUR, close - 1)
        companions.take(companions.news(strategy.companions, first, close))
        paid = client.page(SeriesKey("linear", SYMBOL, "funding", "settlements"), first - 7 * 86_400_000, close - 1)
        history.settlements = {SYMBOL: list(zip(paid.times.tolist(), paid.values[:, 0].tolist(), strict=True))}
        found = [(t, *v[:5]) for t, v in zip(rows.times.tolist(), rows.values.tolist(), strict=True)]
        history.add(bars_of(found))
        panel = history.panel(strategy=strategy)
        seen.append((stop, strategy.model.bank(panel).values[panel.assets.index(SYMBOL)].copy()))
    return history, companions, seen


def test_live_features_are_those_of_the_batch_to_the_last_bit(
    exchange: StandIn, history: Callable[..., Downloads], tmp_path: Path
) -> None:
    stops = [200, 201, 202, 203, 204, 260, BARS - 1, BARS]
    grown, companions, seen = _live(tmp_path, exchange, stops)
    exchange.world.clock.set(NOW, speed=0)
    panel = load_bybit(
        SYMBOLS, "60", start=np.datetime64(LAST - BARS * HOUR, "ms"), end=np.datetime64(LAST, "ms"), timeframes=("240", "D"),
        further=("open-interest", "premium-index", "long-short-ratio"), history=history(),
    )  # fmt: skip
    strategy = load_strategy(tmp_path / "m", SYMBOL, "60")
    batch = strategy.model.bank(panel).values[1]
    assert np.isfinite(batch[:, -60:]).all()
    for stop, values in seen:
        np.testing.assert_array_equal(values, batch[:, :stop])
    # what the journal holds makes the same history again
    again = Companions(Journal(tmp_path / "journal.sqlite"), None, strategy.companions)
    for key, rows in companions.rows.items():
        assert np.array_equal(again.rows[key].times, rows.times)
        assert np.array_equal(again.rows[key].values, rows.values)
    assert grown.count == BARS


def test_a_decision_ignores_rows_that_were_not_known_at_its_close(exchange: StandIn, tmp_path: Path) -> None:
    grown, companions, _ = _live(tmp_path, exchange, [BARS])
    strategy = load_strategy(tmp_path / "m", SYMBOL, "60")
    bar = BARS - 30
    close = grown.first_ms + (bar + 1) * HOUR
    (first,) = decide(strategy, grown, nothing_before(strategy), bar, bar + 1)
    assert np.isfinite(first.forecast)
    for key, rows in companions.rows.items():
        length = {"60": HOUR, "240": 4 * HOUR, "D": 24 * HOUR}[key.interval]
        late = rows.times + (length if len(rows.values[0]) > 1 else 1) > close
        assert late.any()
        companions.rows[key] = Rows(rows.times, np.where(late[:, None], rows.values * 3.0 + 1.0, rows.values))
    assert decide(strategy, grown, nothing_before(strategy), bar, bar + 1) == [first]
    # and it does read what was known
    key = next(k for k in companions.rows if k.kind == "premium-index")
    companions.rows[key] = Rows(companions.rows[key].times, np.roll(companions.rows[key].values, 5, axis=0))
    assert decide(strategy, grown, nothing_before(strategy), bar, bar + 1) != [first]


def test_a_row_that_is_not_there_yet_is_waited_for(exchange: StandIn, tmp_path: Path) -> None:
    _, companions, _ = _live(tmp_path, exchange, [BARS - 10])
    followed = [key for key in companions.rows if key.interval == "60"]
    assert {key.kind for key in followed} == {"klines", "open-interest", "premium-index", "long-short-ratio"}
    for key in followed:
        moment = LAST - 4 * HOUR
        exchange.world.clock.set(moment - 5 * HOUR, speed=0)  # the exchange lags behind the candles
        with pytest.raises(Unavailable, match="not there yet"):
            companions.news([key], 0, moment)
        exchange.world.clock.set(moment + 1, speed=0)
        news = companions.news([key], 0, moment)[key]
        # a bar that has closed; a statistic stamped before
        assert news.times[-1] == moment - HOUR


def test_a_model_that_reads_all_of_it_trades_restarts_and_replays(tmp_path: Path) -> None:
    rig = Rig(tmp_path, features=OWN)
    try:
        rig.act()
        rig.bar(3)
        rig.restart()
        rig.bar(3)
        rig.fault("http_500", "/v5/market/open-interest", times=5)
        rig.tick()
        rig.act(1)
        assert "open-interest" in rig.trader.why
        assert not rig.orders_of(rig.newest_ms), "nothing is decided on half of the inputs"
        assert rig.act()["acted"]
        rig.settle()
        rig.check()
        told = explain(rig.journal)
        assert told.identical == told.compared == 8
    finally:
        rig.close()


def test_only_what_cannot_be_had_is_refused(tmp_path: Path) -> None:
    panel = market_panel(700)
    save_model(tmp_path / "book", panel, features=(("return", "raw"), ("imbalance", "raw")))
    with pytest.raises(InputError, match="'imbalance' of a recorded order book"):
        load_strategy(tmp_path / "book", SYMBOL, "60")
    save_model(tmp_path / "odd", panel, features=(("moon", "raw"),))
    with pytest.raises(InputError, match="'moon', which this version does not have"):
        load_strategy(tmp_path / "odd", SYMBOL, "60")
    save_model(tmp_path / "together", panel, symbols=SYMBOLS)
    rewrite(tmp_path / "together", "genotype.json", assets=list(SYMBOLS), share="all")
    with pytest.raises(InputError, match="reads ETHUSDT, BTCUSDT together; leave --symbol out"):
        load_strategy(tmp_path / "together", SYMBOL, "60")
    save_model(tmp_path / "tied", panel, symbols=SYMBOLS)
    assert load_strategy(tmp_path / "tied", SYMBOL, "60").traded == (SYMBOL,)
    rewrite(tmp_path / "tied", "features.json", portfolio={"weighting": "hrp"})
    with pytest.raises(
        InputError, match="traded with weighting hrp, which ties its symbols together; leave --symbol out"
    ):
        load_strategy(tmp_path / "tied", SYMBOL, "60")
    assert load_strategy(tmp_path / "tied", None, "60").traded == SYMBOLS


def test_a_new_model_whose_inputs_do_not_come_yet_lets_the_old_one_go_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.act()
        old = rig.strategy.name
        save_model(tmp_path / "new", market_panel(900), seed=1, features=OWN)
        new = load_strategy(tmp_path / "new", None, "60")
        real = rig.trader.companions.news

        def news(*_: object) -> dict[SeriesKey, Rows]:
            raise Unavailable("open interest does not come")

        rig.trader.companions.news = news  # type: ignore[method-assign]
        rig.trader.reload = iter([new, *[None] * 1000]).__next__
        rig.bar(2)
        assert rig.journal.last_decision()["model"] == old
        assert rig.events("model") == [f"model {new.name} waits: open interest does not come"]
        rig.trader.companions.news = real  # type: ignore[method-assign]
        rig.bar(2)
        assert rig.journal.last_decision()["model"] == new.name
        rig.settle()
        rig.check()
        told = explain(rig.journal)
        assert told.identical == told.compared == 5
    finally:
        rig.close()
