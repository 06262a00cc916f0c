"""What a person must notice: alerts to Discord, Slack, Telegram, ntfy or any URL that takes JSON, and a heartbeat that somebody misses.

Everything is sent from a thread: whoever tells goes on at once, and a dead service holds nothing up. URLs hold secrets: they are never
written anywhere. Which form a body has follows from the host of the URL, or from a word before it: `ntfy+https://my.host/topic`.

The forms were read in the services' documents, which `tests/strategies/paper/test_alerts.py` cites; a heartbeat as healthchecks.io and
Uptime Kuma take it (a GET).
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import requests

from data.panel import InputError

KINDS = ("start", "halt", "refusal", "stop hit", "liquidation near", "model changed", "no heartbeat", "daily digest")
SERVICES = ("discord", "slack", "telegram", "ntfy", "json")
_HOSTS = {
    "discord.com": "discord",
    "discordapp.com": "discord",
    "canary.discord.com": "discord",
    "ptb.discord.com": "discord",
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "api.telegram.org": "telegram",
    "ntfy.sh": "ntfy",
}
_URGENT = ("halt", "liquidation near", "no heartbeat")
#: UTF-16 units, as Discord and Telegram count; ntfy makes a file of a message above 4,096 bytes, three of which a unit may take
_LONGEST = {"discord": 2000, "slack": 3000, "telegram": 4096, "ntfy": 1300, "json": 10_000}
_TRIES, _TIMEOUT_S = 3, 5.0
_SAME_AGAIN_S = 600.0


@dataclass(frozen=True)
class Target:
    """Where alerts go. service: of SERVICES. repr shows no secret."""

    service: str
    url: str

    def __repr__(self) -> str:
        return f"Target({self.service})"


def target_of(text: str) -> Target:
    """InputError where it is no such URL.

    >>> target_of("https://discord.com/api/webhooks/1/abc").service, target_of("slack+http://127.0.0.1:8080/hook").service
    ('discord', 'slack')
    """
    word, plus, rest = text.strip().partition("+")
    service, url = (word, rest) if plus and word in SERVICES else ("", text.strip())
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"--webhook takes URLs like https://example.org/hook or ntfy+https://my.host/topic, not {text[:12]!r}..."
        )
    service = service or _HOSTS.get(parts.hostname, "json")
    if service == "discord" and parts.path.rstrip("/").endswith("/slack"):  # Discord's door for bodies of Slack
        service = "slack"
    if service == "telegram" and "chat_id" not in parse_qs(parts.query):
        raise InputError("a Telegram URL needs its chat: https://api.telegram.org/bot<token>/sendMessage?chat_id=<id>")
    if service == "ntfy" and not parts.path.strip("/"):
        raise InputError("an ntfy URL needs its topic: https://ntfy.sh/<topic>")
    return Target(service, url)


def request_of(target: Target, paper: str, kind: str, text: str, time_ms: int) -> tuple[str, dict[str, Any]]:
    """(URL, JSON body) of an alert, in the form that the service documents."""
    line = _cut(f"{paper}: {kind}: {text}", _LONGEST[target.service])
    parts = urlsplit(target.url)
    if target.service == "discord":  # what the exchange says must ping nobody
        return target.url, {"content": line, "allowed_mentions": {"parse": []}}
    if target.service == "slack":
        for sign, code in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            line = line.replace(sign, code)
        return target.url, {"text": line}
    if target.service == "telegram":
        asked = {
            name: values[0] for name, values in parse_qs(parts.query).items()
        }  # message_thread_id, disable_notification too
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), {**asked, "text": line}
    if target.service == "ntfy":
        topic = parts.path.strip("/").rpartition("/")[2]
        root = urlunsplit((parts.scheme, parts.netloc, "/", parts.query, ""))  # with ?auth= of a protected topic
        urgent = kind in _URGENT
        body = {"topic": topic, "title": f"{paper}: {kind}", "message": line, "priority": 5 if urgent else 3}
        return root, body | {"tags": ["rotating_light" if urgent else "chart_with_upwards_trend"]}
    state = {"state": "halted"} if kind == "halt" else {}
    return target.url, {"paper": paper, "kind": kind, "why": text, "time_ms": time_ms, **state}


def _cut(text: str, most: int) -> str:
    """At most so many UTF-16 units."""
    units = text.encode("utf-16-le")
    return text if len(units) <= 2 * most else units[: 2 * (most - 1)].decode("utf-16-le", "ignore") + "…"


class Alerts:
    """Tells of events. stalled_s: the loop has not gone round for so long: "no heartbeat" (also, the heartbeat URL is not asked then).

    heartbeat: a URL that gets a GET every heartbeat_s seconds while the loop goes round; the service behind it tells when it does not.
    """

    def __init__(
        self,
        paper: str,
        webhooks: str | None = None,
        heartbeat: str | None = None,
        *,
        heartbeat_s: float = 60.0,
        stalled_s: float = 180.0,
    ) -> None:
        self._paper = paper
        self._targets = [target_of(text) for text in (webhooks or "").replace(",", " ").split()]
        self._heartbeat = target_of(heartbeat).url if heartbeat else ""
        self._heartbeat_s, self._stalled_s = heartbeat_s, stalled_s
        self._waiting: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self._outcomes: queue.Queue[str] = queue.Queue()
        self._said: dict[tuple[str, str], float] = {}
        self._beat_s, self._stalled = time.monotonic(), False
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send_all, name="alerts", daemon=True)]
        self._threads.append(threading.Thread(target=self._watch, name="heartbeat", daemon=True))
        for thread in self._threads:
            thread.start()

    def tell(self, kind: str, text: str) -> None:
        """Returns at once. The same words again within ten minutes are not sent."""
        if kind not in KINDS:
            raise ValueError(f"no kind of alert {kind!r}; there are {', '.join(KINDS)}")
        now = time.monotonic()
        if now - self._said.get((kind, text), -_SAME_AGAIN_S) < _SAME_AGAIN_S:
            return
        self._said[kind, text] = now
        if self._targets:
            self._waiting.put((kind, text))

    def beat(self) -> list[str]:
        """The loop has gone round. What has become of alerts since, for the journal."""
        self._beat_s = time.monotonic()
        if self._stalled:
            self._stalled = False
            self.tell("start", "the loop goes round again")
        found = []
        while True:
            try:
                found.append(self._outcomes.get_nowait())
            except queue.Empty:
                return found

    def close(self, seconds: float = 6.0) -> list[str]:
        """Sends what waits, for so long; what became of it."""
        self._waiting.put(None)
        self._threads[0].join(seconds)
        self._stop.set()
        return self.beat()

    def _send_all(self) -> None:
        while True:
            found = self._waiting.get()
            if found is None:
                return
            kind, text = found
            at_ms = time.time_ns() // 1_000_000
            for target in self._targets:
                self._outcomes.put(f"{kind}: {target.service} {self._send(target, kind, text, at_ms)}")

    def _send(self, target: Target, kind: str, text: str, at_ms: int) -> str:
        url, body = request_of(target, self._paper, kind, text, at_ms)
        said = ""
        for attempt in range(_TRIES):
            if attempt:
                self._stop.wait(2.0**attempt)
            try:
                answer = requests.post(url, json=body, timeout=_TIMEOUT_S)
            except requests.RequestException as error:  # its text may hold the URL
                said = f"could not be told ({type(error).__name__})"
                continue
            if answer.status_code < 400:
                return f"told: HTTP {answer.status_code}"
            said = f"refuses: HTTP {answer.status_code}"
            if answer.status_code < 500 and answer.status_code != 429:
                break
        return said

    def _watch(self) -> None:
        asked = -self._heartbeat_s
        while not self._stop.wait(min(1.0, self._heartbeat_s / 4, self._stalled_s / 4)):
            now = time.monotonic()
            silent = now - self._beat_s
            if silent > self._stalled_s:
                if not self._stalled:
                    self._stalled = True
                    self.tell("no heartbeat", f"the loop has stood for {silent:.0f} s: nothing is decided or watched")
            elif self._heartbeat and now - asked >= self._heartbeat_s:
                asked = now
                try:
                    requests.get(self._heartbeat, timeout=_TIMEOUT_S)
                except requests.RequestException as error:
                    self._outcomes.put(f"heartbeat could not be sent ({type(error).__name__})")
