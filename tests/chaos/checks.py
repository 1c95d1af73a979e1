"""What must hold at the end, by the database and by the provider's own log."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from tests.chaos.fleet import prompt_name
from tests.chaos.monkey import Blow
from tests.chaos.talkers import RATE, Ledger
from tests.chaos.watchers import WORD, Watcher

COMPLETED, FAILED, CANCELLED = 3, 4, 5
_ATTEMPTS = 3  # requests that an owner makes at most, when the provider fails
_SLACK = 0.25  # seconds that clocks and pacing of different processes may differ
_ON_ITS_WAY = 3.0
"""Seconds that a request may be on its way to the provider, on a machine that has much else to do:
it holds what there was when it was made."""

JUDGED = (
    "id, conversation_id, role, state, content, attempt, epoch, strikes, request_id, reply_to,"
    " error_reason, deleted"
)
"""The columns of messages by which a run is judged."""


@dataclass(frozen=True)
class Ask:
    """A request that the provider got."""

    serial: int
    name: str
    """Of the prompt that it asks about."""
    key: str
    """Of the process that asked."""
    arrived: float
    ended: float | None
    text: str
    told: frozenset[str]
    """Names of all prompts that are in it."""


def read_asks(log: list[dict[str, Any]]) -> list[Ask]:
    """The requests of replies, in the order in which they came."""
    ends = {line["serial"]: line for line in log if line["event"] == "ended"}
    asks = []
    for line in log:
        if line["event"] != "arrived" or line["title"]:
            continue
        said = [m["content"] for m in line["body"]["messages"] if m["role"] == "user"]
        name = prompt_name(said[-1])
        assert name, f"a request whose last words nobody said: {said[-1]}"
        end = ends.get(line["serial"], {})
        asks.append(
            Ask(
                line["serial"],
                name,
                line["key"],
                line["time"],
                end.get("time"),
                end.get("text", ""),
                frozenset(filter(None, map(prompt_name, said))),
            )
        )
    return asks


class Judge:
    """Compares what was promised with what is stored; `problems` is what it found."""

    def __init__(
        self,
        rows: list[dict[str, Any]],
        asks: list[Ask],
        ledger: Ledger,
        watchers: list[Watcher],
        blows: list[Blow],
    ) -> None:
        """`rows` are all messages of the database."""
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.latencies: dict[str, list[float]] = defaultdict(list)
        self._rows = rows
        self._by_id = {row["id"]: row for row in rows}
        self._replies = [row for row in rows if row["role"] == 2 and not row["deleted"]]
        self._asks = asks
        self._by_serial = {ask.serial: ask for ask in asks}
        self._ledger = ledger
        self._watchers = watchers
        self._blows = blows

    def judge(self) -> None:
        """Makes all checks."""
        self._what_is_deleted_is_gone()
        self._accepted_messages_are_stored_once()
        self._replies_are_finished()
        self._a_text_is_of_one_request()
        self._owners_ask_once()
        self._acknowledged_cancels_stand()
        self._streams_are_of_one_request_an_attempt()
        self._stopped_processes_say_nothing()
        self._measure_takeovers()

    def _problem(self, what: str) -> None:
        self.problems.append(what)

    def _prompt_name(self, reply: dict[str, Any]) -> str:
        return str(self._by_id[reply["reply_to"]]["request_id"])

    def _what_is_deleted_is_gone(self) -> None:
        for row in self._rows:
            self.counts["messages deleted"] += row["deleted"]
            if row["deleted"] and (row["content"] or row["state"] < COMPLETED):
                self._problem(f"message {row['id']} is deleted, and still there: {row}")
        for request in self._ledger.requests.values():
            prompt = self._by_id.get(request.prompt_id)
            if request.deleted_at < float("inf") and prompt and not prompt["deleted"]:
                self._problem(f"{request.id} was deleted, and is there")
        for ask in self._asks:
            if self._ledger.requests[ask.name].is_faulty:
                continue  # an owner says once more what it was going to say
            for name in ask.told:
                since = self._ledger.requests[name].deleted_at + _ON_ITS_WAY
                if since < ask.arrived and not self._was_held_up(ask, since):
                    self._problem(f"{ask.name} was asked with {name}, which was deleted before")

    def _was_held_up(self, ask: Ask, since: float) -> bool:
        """Whether its process was stopped meanwhile, so that it may have said late what it was
        going to say."""
        return any(
            blow.key == ask.key
            and blow.kind == "stop"
            and blow.began < ask.arrived
            and blow.until > since
            for blow in self._blows
        )

    def _accepted_messages_are_stored_once(self) -> None:
        stored = Counter(row["request_id"] for row in self._rows if row["request_id"])
        contents = Counter(
            row["content"] for row in self._rows if row["role"] == 1 and not row["deleted"]
        )
        replies = Counter(row["reply_to"] for row in self._rows if not row["request_id"])
        for request in self._ledger.requests.values():
            self.counts["requests accepted"] += bool(request.reply_id)
            if request.reply_id and stored[request.id] != 1:
                self._problem(f"{request.id} was accepted and is stored {stored[request.id]} times")
            if contents[request.content] > 1 or stored[request.id] > 1:
                self._problem(f"{request.id} is stored more than once")
            if request.prompt_id and not request.regenerates and replies[request.prompt_id] != 1:
                self._problem(f"{request.id} has {replies[request.prompt_id]} replies of its own")
            reply = self._by_id.get(request.reply_id)
            if request.reply_id and reply is None:
                self._problem(f"the reply to {request.id} is not stored")
            if request.reply_id and request.final is None and not request.was_refused:
                self._problem(f"{request.id} was accepted and its stream told no end")
            if request.final is not None and reply is not None and not reply["deleted"]:
                told = (request.final.state, request.final.content)
                if told != (reply["state"], reply["content"]):
                    self._problem(f"{request.id} was told {told}, stored is {reply}")

    def _replies_are_finished(self) -> None:
        names = {1: "queued", 2: "generating", 3: "completed", 4: "failed", 5: "cancelled"}
        for reply in self._replies:
            self.counts[f"replies {names[reply['state']]}"] += 1
            if reply["error_reason"]:
                self.counts[f"failed with {reply['error_reason']}"] += 1
            self.counts["attempts"] += reply["attempt"]
            self.counts["owners"] += reply["epoch"]
            self.counts["strikes"] += reply["strikes"]
            if reply["state"] not in (COMPLETED, FAILED, CANCELLED):
                self._problem(f"reply {reply['id']} is not finished: {reply}")
            if reply["state"] == FAILED:
                request = self._ledger.requests[self._prompt_name(reply)]
                reason = reply["error_reason"]
                expected = {"REPLY_ABANDONED"} | (
                    {"PROVIDER_UNAVAILABLE"} if request.is_faulty else set()
                )
                if reason not in expected:
                    self._problem(f"reply {reply['id']} failed with {reason}")

    def _a_text_is_of_one_request(self) -> None:
        for reply in self._replies:
            words = WORD.findall(reply["content"])
            serials = {int(serial) for serial, _ in words}
            if "".join(f"r{s}w{i} " for s, i in words) != reply["content"]:
                self._problem(f"reply {reply['id']} has torn words: {reply['content']!r}")
            if [int(index) for _, index in words] != list(range(len(words))):
                self._problem(f"reply {reply['id']} has gaps: {reply['content']!r}")
            if len(serials) > 1:
                self._problem(f"reply {reply['id']} has words of the requests {serials}")
            name = self._prompt_name(reply)
            for serial in serials:
                ask = self._by_serial[serial]
                if ask.name != name:
                    self._problem(f"reply {reply['id']} to {name} has words for {ask.name}")
                if not ask.text.startswith(reply["content"]) and ask.ended is not None:
                    self._problem(f"reply {reply['id']} has words that {serial} never said")
            request = self._ledger.requests[name]
            if reply["state"] == COMPLETED and len(words) != request.words:
                self._problem(f"reply {reply['id']} has {len(words)} words of {request.words}")

    def _owners_ask_once(self) -> None:
        owners: Counter[str] = Counter()
        for reply in (row for row in self._rows if row["role"] == 2):
            owners[self._prompt_name(reply)] += reply["epoch"]
        for name, asks in Counter(ask.name for ask in self._asks).items():
            bound = owners[name] * (_ATTEMPTS if self._ledger.requests[name].is_faulty else 1)
            if asks > bound:
                self._problem(f"{name} was asked {asks} times by {owners[name]} owners")

    def _acknowledged_cancels_stand(self) -> None:
        for cancelled in self._ledger.cancelled:
            told, stored = cancelled.reply, self._by_id[cancelled.reply.id]
            if stored["deleted"]:
                continue
            self.counts["cancels that came in time"] += told.state == CANCELLED
            if told.state not in (COMPLETED, FAILED, CANCELLED):
                self._problem(f"the cancel of {told.id} was answered with state {told.state}")
            if (told.state, told.content) != (stored["state"], stored["content"]):
                self._problem(
                    f"the cancel of {told.id} was answered with {told.state} {told.content!r},"
                    f" stored is {stored['state']} {stored['content']!r}"
                )

    def _streams_are_of_one_request_an_attempt(self) -> None:
        for watcher in self._watchers:
            latest: dict[str, int] = {}
            for (reply_id, attempt), requests in sorted(watcher.transcript.seen.items()):
                if len(requests) > 1:
                    self._problem(
                        f"{watcher.name} saw in attempt {attempt} of {reply_id} words of"
                        f" the requests {requests}"
                    )
                for serial in requests:
                    if serial < latest.get(reply_id, 0):
                        self._problem(
                            f"{watcher.name} saw an older request's words in a newer"
                            f" attempt of {reply_id}"
                        )
                    latest[reply_id] = serial
            for reply in self._replies:
                last = (reply["id"], reply["attempt"])
                seen = max(watcher.transcript.seen.get(last, {}).values(), default=0)
                stored = len(WORD.findall(reply["content"]))
                if seen > stored and reply["state"] == COMPLETED:
                    self._problem(f"{watcher.name} saw more of {reply['id']} than is stored")
                elif seen > stored:  # its owner died with words that nobody else knew
                    self.counts["streams whose last words were taken back"] += 1

    def _stopped_processes_say_nothing(self) -> None:
        """What was said to a process after it was stopped, and after another took its reply over,
        is nowhere."""
        seen: Counter[int] = Counter()
        for watcher in self._watchers:
            for requests in watcher.transcript.seen.values():
                for serial, words in requests.items():
                    seen[serial] = max(seen[serial], words)
        for row in self._replies:
            for serial, index in WORD.findall(row["content"]):
                seen[int(serial)] = max(seen[int(serial)], int(index) + 1)
        for ask, later, blow in self._succeeded():
            if blow.kind != "stop" or later.arrived > blow.until:
                continue
            self.counts["replies of stopped processes that were taken over"] += 1
            said = (blow.began + _SLACK - ask.arrived) * RATE + 1
            if seen[ask.serial] > said:
                self._problem(
                    f"{ask.key} was stopped when it had got {said:.0f} words of {ask.name} at most,"
                    f" {seen[ask.serial]} were seen"
                )

    def _succeeded(self) -> list[tuple[Ask, Ask, Blow]]:
        """The requests that were open when their process was struck, each with the next request
        about the same prompt and the blow."""
        by_name: dict[str, list[Ask]] = defaultdict(list)
        for ask in self._asks:
            by_name[ask.name].append(ask)
        found = []
        for asks in by_name.values():
            for ask, later in itertools.pairwise(asks):
                for blow in self._blows:
                    if (
                        blow.key == ask.key
                        and ask.arrived < blow.began < later.arrived
                        and (ask.ended is None or ask.ended > blow.began - _SLACK)
                    ):
                        found.append((ask, later, blow))
                        break
        return found

    def _measure_takeovers(self) -> None:
        """Only of prompts with one reply, that nobody else had to do with meanwhile."""
        single = Counter(self._prompt_name(reply) for reply in self._replies)
        for ask, later, blow in self._succeeded():
            if single[ask.name] == 1:
                self.latencies[f"the next request after a {blow.kind}"].append(
                    later.arrived - blow.began
                )
