"""Fetch what the store lacks: pages in parallel, holes asked for again, and what is fetched is kept as it comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np
from filelock import Timeout

from data.bybit import Bybit
from data.instruments import InstrumentInfo
from data.intervals import say_time
from data.panel import InputError
from data.series import KINDS, Rows, SeriesKey, Span, last_closed, merge, no_rows, open_times
from data.store import Damaged, Series, Store

#: pages in flight; at 100 ms a call this is well below the exchange's 120 calls a second
PARALLEL_PAGES = 16
#: what was fetched reaches the disk at least this often
FLUSH_S = 3.0
FLUSH_PAGES = 64
#: a hole is believed once this many further answers agree on it
CONFIRMATIONS = 3

#: told (rows fetched so far, rows expected) of one series
Progress = Callable[[int, int], None]


class History:
    """Store and client together. `say` is told, one line a call, what a person should know."""

    def __init__(
        self, store: Store, client: Bybit, say: Callable[[str], None] | None = None, parallel: int = PARALLEL_PAGES
    ) -> None:
        self.store, self.client, self.parallel = store, client, parallel
        self.say = say or (lambda _line: None)
        self._described: dict[tuple[str, str], InstrumentInfo] = {}

    def load(self, key: SeriesKey, start_ms: int, end_ms: int, progress: Progress | None = None) -> Rows:
        """Rows with start <= time < end, fetched first where missing. Bars not closed yet are never included."""
        series = self.store.series(key)
        for _ in range(3):
            self.ensure(key, start_ms, end_ms, progress)
            try:
                return series.read(start_ms, end_ms)
            except (Damaged, FileNotFoundError) as damage:
                path = damage.path if isinstance(damage, Damaged) else None
                if path is not None:
                    self.say(f"{key}: {path.name} in the store is damaged; fetching that month again")
                    with self._locked(series):
                        series.drop(path)
        raise InputError(f"{key}: the store under {self.store.root} keeps being damaged; is the disk failing?")

    def ensure(self, key: SeriesKey, start_ms: int, end_ms: int, progress: Progress | None = None) -> None:
        """Fetch what the store lacks of [start, end). No request where nothing closed is missing."""
        series = self.store.series(key)
        if not series.missing(start_ms, end_ms):
            return
        with self._locked(series):
            missing = series.missing(start_ms, end_ms)
            if not missing:
                return
            launch = self._launched(key)
            now = self.client.now_ms()
            closed = now + 1 if not KINDS[key.kind].regular else last_closed(key.interval, now)
            if key.kind in ("open-interest", "long-short-ratio"):
                closed = now + 1  # stamped at the moment itself, not at an opening
            spans = [(max(a, launch), min(b, closed)) for a, b in missing]
            unborn = [(a, min(b, launch)) for a, b in missing if a < launch]
            if unborn:
                series.add(no_rows(len(series.columns)), unborn)
            spans = [(a, b) for a, b in spans if a < b]
            if KINDS[key.kind].regular:
                self._fetch_regular(series, spans, progress)
            else:
                self._fetch_irregular(series, spans, progress)

    def instrument(self, category: str, symbol: str) -> InstrumentInfo | None:
        """The exchange's rules for orders as they were when this symbol was last fetched; asked for where the store has none.

        None where the exchange cannot be asked either.
        """
        name = (category, symbol)
        known = self._described.get(name) or self.store.instrument(category, symbol)
        if known is None and not self.client.offline:
            known = self._described[name] = self.client.instrument(category, symbol)
            self.store.keep_instrument(known)
        return known

    def _launched(self, key: SeriesKey) -> int:
        """When the symbol began to trade; also finds out that there is no such symbol."""
        name = (key.category, key.symbol)
        if name not in self._described:
            self._described[name] = self.client.instrument(*name)
            self.store.keep_instrument(self._described[name])
        launch = self._described[name].launch_ms
        if not KINDS[key.kind].regular or key.interval == "M":
            return launch if key.interval != "M" else int(open_times("M", 0, launch + 1)[-1])
        return last_closed(key.interval, launch)  # the bar that holds the launch counts

    @contextlib.contextmanager
    def _locked(self, series: Series) -> Iterator[None]:
        lock = series.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.say(f"{series.key}: another process is fetching it; waiting for its lock")
            lock.acquire()
        try:
            series.sweep()
            yield
        finally:
            lock.release()

    def _fetch_regular(self, series: Series, spans: list[Span], progress: Progress | None) -> None:
        """Pages of a full answer each, in parallel; written in batches, oldest first."""
        key = series.key
        pages = [page for span in spans for page in _pages(key, *span)]
        expected = sum(len(open_times(key.interval, *span)) for span in spans)
        done: list[tuple[Rows, Span]] = []
        fetched, flushed_at = 0, time.monotonic()
        with self._pool() as pool:
            pending = {pool.submit(self._page, series, page) for page in pages}
            try:
                while pending:
                    finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                    for future in finished:
                        done.append(future.result())
                        fetched += len(done[-1][0])
                    if len(done) >= FLUSH_PAGES or time.monotonic() - flushed_at > FLUSH_S:
                        self._flush(series, done)
                        done, flushed_at = [], time.monotonic()
                    if progress is not None:
                        progress(fetched, expected)
            finally:  # also what came before an error or an interrupt is kept
                self._flush(series, done)

    def _fetch_irregular(self, series: Series, spans: list[Span], progress: Progress | None) -> None:
        """Settlements: few rows, no grid; a step longer than its neighbours is asked for again before it is believed."""
        key = series.key
        for start, end in spans:
            step = 200 * 8 * 3_600_000
            pages = [(a, min(a + step, end)) for a in range(start, end, step)]
            parts: list[Rows] = []
            with self._pool() as pool:
                for number, rows in enumerate(
                    pool.map(lambda page: self.client.page(key, page[0], page[1] - 1), pages)
                ):
                    parts.append(rows)
                    if progress is not None:
                        progress(sum(map(len, parts)), max(sum(map(len, parts)) * len(pages) // (number + 1), 1))
            rows = merge([*parts, no_rows(len(series.columns))])
            sure: dict[Span, int] = {}
            while doubts := [gap for gap in _long_steps(rows, start, end) if sure.get(gap, 0) < CONFIRMATIONS]:
                for gap in doubts:
                    wider = merge([rows, self.client.page(key, gap[0], gap[1] - 1)])
                    sure[gap] = 0 if len(wider) > len(rows) else sure.get(gap, 0) + 1  # a lone settlement is seen again
                    rows = wider
            series.add(rows, [(start, end)])

    def _page(self, series: Series, page: Span) -> tuple[Rows, Span]:
        """One page, its holes asked for until answers agree that there is nothing."""
        opens = open_times(series.key.interval, *page)  # asked for from inside a bar, the exchange gives that bar too
        if not len(opens):
            return no_rows(len(series.columns)), page
        rows = self.client.page(series.key, int(opens[0]), page[1] - 1)
        agreed = 0
        while (gaps := series.gaps(rows.times, *page)) and agreed < CONFIRMATIONS:
            wider = merge([rows, *(self.client.page(series.key, a, b - 1) for a, b in gaps)])
            agreed = 0 if len(wider) > len(rows) else agreed + 1
            rows = wider
        return rows, page

    @staticmethod
    def _flush(series: Series, done: list[tuple[Rows, Span]]) -> None:
        if done:
            series.add(merge([rows for rows, _ in done]), [span for _, span in done])

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that stop asking when the block is left by an error or an interrupt."""
        pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="page")
        try:
            yield pool
        except BaseException:
            self.client.stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self.client.stopped.clear()
            raise
        pool.shutdown(wait=True)

    def holes(self, key: SeriesKey, rows: Rows) -> list[str]:
        """The gaps inside rows, in words."""
        if not len(rows):
            return []
        gaps = self.store.series(key).gaps(rows.times, int(rows.times[0]), int(rows.times[-1]) + 1)
        return [
            f"{key}: a gap of {len(open_times(key.interval, a, b))} at {say_time(np.datetime64(a, 'ms'))} "
            "(the exchange has no rows there)"
            for a, b in gaps
        ]


def _pages(key: SeriesKey, start_ms: int, end_ms: int) -> list[Span]:
    """[start, end) in spans of one answer each."""
    opens = open_times(key.interval, start_ms, end_ms)
    if not len(opens):
        return [(start_ms, end_ms)] if start_ms < end_ms else []
    edges = [start_ms, *opens[KINDS[key.kind].page_rows :: KINDS[key.kind].page_rows].tolist(), end_ms]
    return list(pairwise(edges))


def _long_steps(rows: Rows, start_ms: int, end_ms: int) -> list[Span]:
    """Spans between two settlements (and at the ends) longer than a neighbouring step: something may be missing there."""
    times = rows.times
    if len(times) < 2:
        return [(start_ms, end_ms)]
    steps = np.diff(times)
    near = np.minimum(np.append(steps[1:], steps[-1]), np.insert(steps[:-1], 0, steps[0]))
    out = [(int(times[i]) + 1, int(times[i + 1])) for i in np.flatnonzero(steps > near)]
    if times[0] - start_ms > steps[0]:
        out.append((start_ms, int(times[0])))
    if end_ms - 1 - times[-1] > steps[-1]:
        out.append((int(times[-1]) + 1, end_ms))
    return out
