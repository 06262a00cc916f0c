"""Alerts in the forms that their services document; what raises each kind; the heartbeat; what changes between bars is noticed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from data.panel import InputError
from strategies.paper.alerts import KINDS, Alerts, request_of, target_of
from strategies.paper.timing import Timing
from strategies.paper.trader import HALTED, RUNNING
from tests.strategies.paper.rig import SYMBOL, Hook, Rig
from tests.strategies.paper.test_faults import CREATE, fault

Make = Callable[..., Rig]
TEXT = 'halted <b>&amp; "x"</b> @everyone 12%'
#: URL -> where the body goes, and the body for kind "halt" and TEXT, from the services' documents:
#: discord: docs/resources/webhook.mdx of github.com/discord/discord-api-docs at 0faf8b8, "Execute Webhook" (content up to 2000 characters;
#:   wait, thread_id in the query) and "Execute Slack-Compatible Webhook"; allowed_mentions {"parse": []} suppresses all (message.mdx)
#: slack: api.slack.com/incoming-webhooks (POST of {"text": ...}) and .../reference/surfaces/formatting#escaping (&, <, > only)
#: telegram: core.telegram.org/bots/api#sendmessage (chat_id, text of 1-4096 characters, message_thread_id; JSON; no parse_mode: plain)
#: ntfy: docs/publish.md of github.com/binwiederhier/ntfy at 81a486a, "Publish as JSON" (to the root URL; topic, message, title, tags as an
#:   array, priority 1 to 5) and "Query param" (auth)
#: compared with what apprise sends (apprise/plugins/{discord,slack,telegram,ntfy}.py of github.com/caronc/apprise at cf17bc9)
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "https://discord.com/api/webhooks/1/secret": (
        "https://discord.com/api/webhooks/1/secret",
        {"content": f"acct: halt: {TEXT}", "allowed_mentions": {"parse": []}},
    ),
    "https://hooks.slack.com/services/T0/B0/secret": (
        "https://hooks.slack.com/services/T0/B0/secret",
        {"text": 'acct: halt: halted &lt;b&gt;&amp;amp; "x"&lt;/b&gt; @everyone 12%'},
    ),
    "https://api.telegram.org/bot1:secret/sendMessage?chat_id=-100": (
        "https://api.telegram.org/bot1:secret/sendMessage",
        {"chat_id": "-100", "text": f"acct: halt: {TEXT}"},
    ),
    "https://discord.com/api/webhooks/1/secret?thread_id=5": (
        "https://discord.com/api/webhooks/1/secret?thread_id=5",
        {"content": f"acct: halt: {TEXT}", "allowed_mentions": {"parse": []}},
    ),
    "https://discord.com/api/webhooks/1/secret/slack": (
        "https://discord.com/api/webhooks/1/secret/slack",
        {"text": 'acct: halt: halted &lt;b&gt;&amp;amp; "x"&lt;/b&gt; @everyone 12%'},
    ),
    "https://api.telegram.org/bot1:secret/sendMessage?chat_id=@channel&message_thread_id=7": (
        "https://api.telegram.org/bot1:secret/sendMessage",
        {"chat_id": "@channel", "message_thread_id": "7", "text": f"acct: halt: {TEXT}"},
    ),
    "https://ntfy.sh/secret?auth=QmFzaWM": (
        "https://ntfy.sh/?auth=QmFzaWM",
        {
            "topic": "secret",
            "title": "acct: halt",
            "message": f"acct: halt: {TEXT}",
            "priority": 5,
            "tags": ["rotating_light"],
        },
    ),
    "https://ntfy.sh/secret": (
        "https://ntfy.sh/",
        {
            "topic": "secret",
            "title": "acct: halt",
            "message": f"acct: halt: {TEXT}",
            "priority": 5,
            "tags": ["rotating_light"],
        },
    ),
    "https://example.org/secret?x=1": (
        "https://example.org/secret?x=1",
        {"paper": "acct", "kind": "halt", "why": TEXT, "time_ms": 7, "state": "halted"},
    ),
}


@pytest.mark.parametrize("url", FORMS)
def test_a_body_has_the_form_that_its_service_documents(url: str) -> None:
    target = target_of(url)
    assert request_of(target, "acct", "halt", TEXT, 7) == FORMS[url]
    assert "secret" not in repr(target)
    longest = {"discord": 2000, "slack": 3000, "telegram": 4096, "ntfy": 4096, "json": 20_000}[target.service]
    for letter in (
        "x",
        "\N{GREEK SMALL LETTER ALPHA}",
        "\N{POLICE CARS REVOLVING LIGHT}",
    ):  # of one and two UTF-16 units
        _, body = request_of(target, "acct", "refusal", letter * 10_000, 7)
        assert all(len(str(value).encode("utf-16-le")) // 2 <= longest for value in body.values())
        assert target.service != "ntfy" or len(body["message"].encode()) <= 4096


@pytest.mark.parametrize(
    "url", ["x", "ftp://a/b", "https://", "https://api.telegram.org/bot1/sendMessage", "https://ntfy.sh/", "slack+x"]
)
def test_what_is_no_such_url_is_told_without_its_secret(url: str) -> None:
    with pytest.raises(InputError) as told:
        target_of(url)
    assert "\n" not in str(told.value)


def _arrived(hook: Hook, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(hook.told) < count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_every_kind_arrives_in_every_form(hook: Hook) -> None:
    base = hook.url
    urls = f"discord+{base}/d, slack+{base}/s telegram+{base}/bot1/sendMessage?chat_id=5,ntfy+{base}/topic,{base}/json"
    alerts = Alerts("acct", urls)
    for kind in KINDS:
        alerts.tell(kind, f"about {kind}")
        alerts.tell(kind, f"about {kind}")  # the same again is not sent
    _arrived(hook, 5 * len(KINDS))
    outcomes = alerts.close()
    assert len(hook.told) == 5 * len(KINDS)
    assert len(outcomes) == 5 * len(KINDS)
    assert all("told: HTTP 204" in text and "127.0.0.1" not in text for text in outcomes)
    shapes = [tuple(sorted(body)) for body in hook.told]
    for keys in (
        ("allowed_mentions", "content"),
        ("text",),
        ("chat_id", "text"),
        ("message", "priority", "tags", "title", "topic"),
    ):
        assert shapes.count(keys) == len(KINDS)
    assert {body["kind"] for body in hook.told if "kind" in body} == set(KINDS)
    with pytest.raises(ValueError, match="no kind of alert"):
        alerts.tell("nonsense", "x")


def test_a_dead_or_refusing_service_holds_nothing_up_and_shows_no_secret(hook: Hook) -> None:
    alerts = Alerts("acct", f"http://127.0.0.1:9/secret,{hook.url}")
    hook.answers = [403]
    alerts.tell("halt", "a reason")
    assert alerts.beat() == [], "told later: nothing waited"
    alerts._stop.set()  # no pauses between tries
    outcomes = alerts.close(30)
    assert sorted(outcomes) == ["halt: json could not be told (ConnectionError)", "halt: json refuses: HTTP 403"]


def test_the_heartbeat_goes_on_while_the_loop_goes_round_and_its_end_is_told(hook: Hook) -> None:
    alerts = Alerts("acct", hook.url, f"{hook.url}/beat", heartbeat_s=0.05, stalled_s=0.4)
    deadline = time.monotonic() + 30
    while sum("beat" in path for path in hook.asked) < 3 and time.monotonic() < deadline:
        alerts.beat()
        time.sleep(0.01)
    _arrived(hook, 1)
    assert hook.told[0]["kind"] == "no heartbeat"
    asked = sum("beat" in path for path in hook.asked)
    assert asked >= 3
    alerts.beat()
    alerts.close()
    assert [told["kind"] for told in hook.told] == ["no heartbeat", "start"]


def test_what_the_trader_tells(rig: Make) -> None:
    r = rig()
    assert [kind for kind, _ in r.alerts] == ["start"]
    r.fault("code_110007", CREATE)
    r.bar()
    assert "110007" in dict(r.alerts)["refusal"]
    r.bar(26)
    digests = [text for kind, text in r.alerts if kind == "daily digest"]
    assert digests
    assert "equity" in digests[0]
    assert "fills" in digests[0]
    r.trader._take_over(r.strategy)
    assert "gives way" in dict(r.alerts)["model changed"]
    r.trader._watch_margin(0.55)
    r.trader._watch_margin(0.6)
    assert [kind for kind, _ in r.alerts].count("liquidation near") == 1
    r.trader._halt("a reason")
    r.trader._halt("once more")
    assert r.halts == ["a reason"]


@pytest.mark.parametrize("what", ["position", "order", "stop"])
@fault(
    "a position, an order or a stop changed by hand between bars",
    "noticed at the next look (20 s), not at the next bar",
)
def test_a_change_by_hand_is_noticed_between_bars(rig: Make, what: str) -> None:
    r = rig(stop_loss=3.0)
    r.bar()
    r.trader.timing = replace(r.trader.timing, look_s=0.0)
    h = r.exchange.account.holding(SYMBOL, 0)
    with r.world.lock:
        if what == "position":
            r.exchange.by_hand(SYMBOL, "Buy", "0.1")
        elif what == "order":
            r.exchange.accept(
                {
                    "category": "linear",
                    "symbol": SYMBOL,
                    "side": "Buy",
                    "orderType": "Limit",
                    "price": "9000",
                    "qty": "0.001",
                }
            )
        else:
            stop = h.stop
            r.exchange.set_stop(SYMBOL, 0, Decimal(0))
    for _ in range(2):
        r.trader.step()
    if what == "stop":
        assert h.stop == stop
        assert r.trader.status == RUNNING
    else:
        assert r.trader.status == HALTED
        assert "not ours" in r.trader.why
    assert Timing().look_s <= 20.0


def test_urls_are_in_no_journal(rig: Make, hook: Hook) -> None:
    r = rig()
    alerts = Alerts("rig", f"{hook.url}/very-secret")
    r.trader.tell, r.trader.beat = alerts.tell, alerts.beat
    r.trader._halt("a reason")
    _arrived(hook, 1)
    for outcome in alerts.close():
        r.journal.event("alert", outcome)
    assert r.events("alert") == ["halt: json told: HTTP 204"]
    everything = json.dumps([list(map(str, row)) for row in r.journal.rows("SELECT * FROM events")])
    assert "very-secret" not in everything
