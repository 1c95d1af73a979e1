"""The guards: each is a piece of code, and what the code would be without it."""

from __future__ import annotations

from dataclasses import dataclass

CHANGES = "server/colloquy_server/database/repository/changes.py"
LEASES = "server/colloquy_server/database/repository/leases.py"
CANCELLATION = "server/colloquy_server/database/repository/cancellation.py"
QUEUE = "server/colloquy_server/database/repository/queue.py"
SENDING = "server/colloquy_server/database/repository/sending.py"
MESSAGES = "server/colloquy_server/database/repository/messages.py"
TITLES = "server/colloquy_server/database/repository/titles.py"
DELETION = "server/colloquy_server/database/repository/deletion.py"
ACCOUNTING = "server/colloquy_server/database/repository/accounting.py"
COUNTERS = "server/colloquy_server/database/repository/budget_counters.py"
INDEXING = "server/colloquy_server/database/repository/indexing.py"
FEED = "server/colloquy_server/database/repository/feed.py"
OPENING = "server/colloquy_server/database/repository/opening.py"
SCOPE = "server/colloquy_server/database/scope.py"
SQLITE = "server/colloquy_server/database/sqlite.py"
FEEDS = "server/colloquy_server/replies/feeds.py"
PIPELINES = "server/colloquy_server/database/pipelines.py"
STATEMENTS = "server/colloquy_server/database/statements.py"
WATCHER = "server/colloquy_server/api/watcher.py"
MIRRORS = "server/colloquy_server/replies/mirrors.py"
OWNERSHIP = "server/colloquy_server/replies/ownership.py"
CHECKPOINTS = "server/colloquy_server/replies/checkpoints.py"
PUBLISHING = "server/colloquy_server/replies/publishing.py"

EXECUTOR = "server/colloquy_server/replies/executor.py"
VIEWERS = "server/colloquy_server/database/audience.py"
FOLLOWING = "server/colloquy_server/api/following.py"
AUDIENCE = "tests/unit/test_viewers.py"
REMOVED = "tests/integration/test_removed_meanwhile.py"
SEEN = "tests/e2e/test_audience.py"

STATEFUL = ("tests/stateful/test_orders.py", "tests/stateful/test_replies.py", "-k", "sqlite")

CLOCKS = ("tests/integration/test_clock_jumps.py", "-k", "sqlite")

DELETION_TESTS = ("tests/e2e/test_deletion.py",)


@dataclass(frozen=True)
class Edit:
    """`code`, which is in the file once, and what stands there without the guard."""

    file: str
    code: str
    instead: str


@dataclass(frozen=True)
class Guard:
    """A guard by name, the edits that take it away, and the tests that must then fail."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = STATEFUL


def _guard(name: str, file: str, code: str, instead: str, *tests: str) -> Guard:
    return Guard(name, (Edit(file, code, instead),), tests or STATEFUL)


_ORDER = (
    _guard(
        "every change makes a version",
        CHANGES,
        ".values(version=Conversation.version + 1, change_mark=next_mark(Conversation.account_id))",
        ".values(version=Conversation.version, change_mark=next_mark(Conversation.account_id))",
    ),
    _guard(
        "a new attempt carries the version",
        LEASES,
        """        content=bindparam("text"),
        version=bindparam("new_version"),
""",
        """        content=bindparam("text"),
        version=Message.version + 0 * bindparam("new_version"),
""",
    ),
    _guard(
        "a start carries the version",
        QUEUE,
        'version=bindparam("new_version"),',
        'version=Message.version + 0 * bindparam("new_version"),',
    ),
    _guard(
        "an end carries the version",
        LEASES,
        "version=select(Conversation.version)",
        "version=select(Conversation.version - 1)",
    ),
    _guard(
        "a cancel carries the version",
        CANCELLATION,
        ".values(state=State.CANCELLED, version=locked.version, update_time=locked.now)",
        ".values(state=State.CANCELLED, update_time=locked.now)",
    ),
    _guard(
        "a forced cancel carries the version",
        CANCELLATION,
        """            content=content,
            version=locked.version,
""",
        """            content=content,
""",
    ),
    _guard(
        "a reply that is superseded carries the version",
        SENDING,
        ".values(superseded=True, version=locked.version, update_time=locked.now)",
        ".values(superseded=True, update_time=locked.now)",
    ),
    _guard(
        "a rating carries the version",
        MESSAGES,
        """            rated_by=by.id if rating else None,
            version=locked.version,
""",
        """            rated_by=by.id if rating else None,
""",
    ),
)

_OWNERS = (
    _guard(
        "a checkpoint names the epoch",
        LEASES,
        '_table.c.epoch == bindparam("owner"),',
        '_table.c.epoch >= 0 * bindparam("owner"),',
    ),
    _guard(
        "a checkpoint names the attempt",
        LEASES,
        '_table.c.attempt == bindparam("of_attempt"),',
        '_table.c.attempt >= 0 * bindparam("of_attempt"),',
    ),
    _guard(
        "a checkpoint is of a live reply",
        LEASES,
        """    _table.c.state == State.GENERATING,
    _table.c.lease_until != RELEASED,
""",
        """    _table.c.lease_until != RELEASED,
""",
    ),
    _guard(
        "a checkpoint is not of a reply that was released",
        LEASES,
        """    _table.c.state == State.GENERATING,
    _table.c.lease_until != RELEASED,
""",
        """    _table.c.state == State.GENERATING,
""",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a checkpoint says what was fenced",
        LEASES,
        "return written.rowcount == len(texts)",
        "return written.rowcount >= 0",
    ),
    Guard(
        "a renewal names the epoch",
        (
            Edit(
                LEASES,
                ".where(tuple_(Message.id, Message.epoch).in_(",
                ".where(Message.id.in_(",
            ),
            Edit(
                LEASES,
                's.run(_RENEW, {"owned": owned, "ttl": ttl})',
                's.run(_RENEW, {"owned": [pair[0] for pair in owned], "ttl": ttl})',
            ),
        ),
    ),
    _guard(
        "a renewal is of a live reply",
        LEASES,
        "expanding=True)), has_owner)",
        "expanding=True)))",
    ),
    _guard(
        "a renewal is not of a reply that was released",
        LEASES,
        "has_owner = and_(is_generating, Message.lease_until != RELEASED)",
        "has_owner = and_(is_generating)",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a renewal tells of a cancel",
        LEASES,
        "return {row[0]: bool(row[1]) for row in rows}",
        "return {row[0]: False for row in rows}",
    ),
    _guard(
        "a new attempt names the epoch",
        LEASES,
        'Message.epoch == bindparam("owner"), is_generating)',
        'Message.epoch >= 0 * bindparam("owner"), is_generating)',
    ),
    _guard(
        "a new attempt is of a live reply",
        LEASES,
        'Message.epoch == bindparam("owner"), is_generating)',
        'Message.epoch == bindparam("owner"))',
    ),
    _guard(
        "a new attempt has a new number",
        LEASES,
        "attempt=Message.attempt + 1,",
        "attempt=Message.attempt,",
    ),
    _guard(
        "an end names the epoch",
        LEASES,
        '_END.where(Message.epoch == bindparam("owner"))',
        '_END.where(Message.epoch >= 0 * bindparam("owner"))',
    ),
    _guard(
        "an end is of a live reply",
        LEASES,
        '.where(Message.id == bindparam("reply"), is_generating)',
        '.where(Message.id == bindparam("reply"))',
    ),
    _guard(
        "an owner of a deleted conversation is fenced",
        LEASES,
        """    except NotFound:
        raise Fenced from None
""",
        """    except NotFound:
        raise
""",
    ),
    _guard(
        "a released lease is free",
        LEASES,
        "_write_owned(s, _RELEASE, texts)",
        "_write_owned(s, _SAVE, texts)",
    ),
    _guard(
        "what waits of a transaction is not sent after its rollback",
        PIPELINES,
        "        self._waiting.clear()\n        super().rollback()",
        "        super().rollback()",
        "tests/integration/test_pipelines.py",
    ),
    _guard(
        "what waits is sent before anything else is executed",
        PIPELINES,
        "        self.flush()\n        return super().cursor(",
        "        return super().cursor(",
        "tests/integration/test_pipelines.py",
    ),
    _guard(
        "a commit that fails leaves nothing",
        PIPELINES,
        "            if not self.closed:\n                super().rollback()\n",
        "",
        "tests/integration/test_pipelines.py",
    ),
    _guard(
        "a statement for no values is not run",
        STATEMENTS,
        """    if many is not None and not many:
        return lambda: _NO_ROWS
""",
        "",
        "tests/unit/test_scope.py",
    ),
)

_TAKEOVERS = (
    _guard(
        "a takeover looks once more whether the lease is over",
        LEASES,
        "is_over = Message.lease_until < db_now()",
        "is_over = Message.lease_until >= RELEASED",
    ),
    _guard(
        "a takeover begins a new epoch",
        LEASES,
        """            epoch=Message.epoch + 1,
            strikes""",
        """            epoch=Message.epoch,
            strikes""",
    ),
    _guard(
        "an owner that died is a strike",
        LEASES,
        "strikes=Message.strikes + (1 if died else 0),",
        "strikes=Message.strikes,",
    ),
    _guard(
        "an owner that released is no strike",
        LEASES,
        "strikes=Message.strikes + (1 if died else 0),",
        "strikes=Message.strikes + 1,",
    ),
    _guard(
        "the third strike ends a reply",
        LEASES,
        "elif died and reply.strikes + 1 >= MAX_STRIKES:",
        "elif died and reply.strikes >= MAX_STRIKES:",
    ),
    _guard(
        "releasing never ends a reply",
        LEASES,
        "elif died and reply.strikes + 1 >= MAX_STRIKES:",
        "elif reply.strikes + 1 >= MAX_STRIKES:",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a takeover honours a cancel",
        LEASES,
        "if reply.cancel_requested:",
        "if reply.cancel_requested is None:",
    ),
    _guard(
        "a takeover keeps text of this attempt only",
        LEASES,
        "content = longer(known, reply.content) if reply.attempt == attempt else reply.content",
        "content = longer(known, reply.content)",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a takeover loses no checkpoint",
        LEASES,
        "        .with_for_update(of=Message)  # a checkpoint",
        "        # a checkpoint",
        "tests/stateful/test_between.py",
    ),
    _guard(
        "the longer text is kept",
        LEASES,
        "return known if len(known) > len(saved) else saved",
        "return known or saved",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "only leases that are over are looked for",
        LEASES,
        ".where(is_generating, or_(Message.lease_until < db_now(), _is_far_ahead))",
        ".where(is_generating)",
    ),
    _guard(
        "a lease of before the clock was set back is looked for",
        LEASES,
        ".where(is_generating, or_(Message.lease_until < db_now(), _is_far_ahead))",
        ".where(is_generating, Message.lease_until < db_now())",
        *CLOCKS,
    ),
    _guard(
        "an owner that lives keeps its reply when the clock is set forward",
        "server/colloquy_server/replies/scheduler.py",
        " and not ownership.holds(row.id)",
        "",
        *CLOCKS,
    ),
)

_QUEUE = (
    _guard(
        "one reply a conversation is started",
        QUEUE,
        "    if is_busy(s, conversation_id):",
        "    if False and is_busy(s, conversation_id):",
    ),
    _guard(
        "the database allows one live reply a conversation",
        "migrations/server/versions/0001_first_schema.py",
        "unique=True,",
        "unique=False,",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a send starts only in a free conversation",
        SENDING,
        """    owned = opened.may_start(lease)
    reply = _new_reply(opened, said""",
        """    owned = replace(opened, waiting=0).may_start(lease)
    reply = _new_reply(opened, said""",
    ),
    _guard(
        "a regenerate starts only in a free conversation",
        SENDING,
        """    owned = opened.may_start(lease)
    reply = _new_reply(opened, prompt""",
        """    owned = replace(opened, waiting=0).may_start(lease)
    reply = _new_reply(opened, prompt""",
    ),
    _guard(
        "first come first served",
        QUEUE,
        ".order_by(Message.queue_rank, Message.position)",
        ".order_by(Message.queue_rank.desc(), Message.position)",
    ),
    _guard(
        "whoever interrupts goes first",
        SENDING,
        "reply._replace(queue_rank=-locked.version)",
        "reply._replace(queue_rank=locked.version)",
    ),
    _guard(
        "an interrupt cancels the live reply",
        SENDING,
        "return cancel_in(s, opened.locked, s.run(live).scalar_one()).reply",
        "return messages.get(s, s.run(live).scalar_one())",
    ),
    _guard(
        "a start begins a new epoch",
        QUEUE,
        "epoch=Message.epoch + 1,",
        "epoch=Message.epoch,",
    ),
    Guard(
        "an account has a limit",
        (
            Edit(QUEUE, "head[1] >= lease.per_account", "head[1] > lease.per_account"),
            Edit(
                OPENING,
                "return self.live_of_account < lease.per_account",
                "return self.live_of_account <= lease.per_account",
            ),
        ),
    ),
    _guard(
        "a start keeps the account's limit",
        QUEUE,
        "if head is None or head[1] >= lease.per_account:",
        "if head is None:",
    ),
    _guard(
        "a send keeps the account's limit",
        OPENING,
        "return self.live_of_account < lease.per_account",
        "return True",
    ),
    _guard(
        "accounts are looked through within their limit",
        QUEUE,
        """.where(ranked.c.rank_in_account <= bindparam("per_account"))""",
        """.where(ranked.c.rank_in_account < 9 + bindparam("per_account"))""",
    ),
    _guard(
        "a queue has an end",
        SENDING,
        """    _refuse_when_full(opened, max_queued)
    position""",
        """    _refuse_when_full(opened, max_queued + 1)
    position""",
    ),
    _guard(
        "a regenerate finds the end of the queue",
        SENDING,
        """    _refuse_when_full(opened, max_queued)
    changed""",
        """    _refuse_when_full(opened, max_queued + 1)
    changed""",
    ),
    _guard(
        "a busy conversation can be refused",
        SENDING,
        "if opened.is_busy and prompt.on_busy == OnBusy.REJECT",
        "if opened.live and prompt.on_busy == OnBusy.REJECT",
    ),
)

_REQUESTS = (
    _guard(
        "a request_id is looked up",
        SENDING,
        """    if opened.is_known:
        return _attach(""",
        """    if not prompt.content:
        return _attach(""",
    ),
    _guard(
        "a request_id is looked up by a regenerate",
        SENDING,
        """    if opened.is_known:
        return _attach_regenerate(""",
        """    if not prompt.content:
        return _attach_regenerate(""",
    ),
    _guard(
        "a request_id is looked up before the queue's end",
        SENDING,
        """    if opened.is_known:
        return _attach(""",
        """    _refuse_when_full(opened, max_queued)
    if opened.is_known:
        return _attach(""",
    ),
    _guard(
        "a request_id is of one content",
        SENDING,
        """        or said.content != prompt.content
""",
        "",
    ),
    _guard(
        "a request_id of a regenerate is no send's",
        SENDING,
        """        said.request_id != prompt.request_id  # it was a RegenerateReply's
""",
        """        said.request_id == 'x'
""",
    ),
    _guard(
        "a request_id of another regenerate is refused",
        SENDING,
        "is_same = reply.request_id == request_id and reply.reply_to == prompt.id",
        "is_same = reply.request_id == request_id",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a request_id of a send is no regenerate's",
        SENDING,
        "is_same = reply.request_id == request_id and reply.reply_to == prompt.id",
        "is_same = reply.reply_to == prompt.id",
    ),
    _guard(
        "a wish is granted to a send",
        SENDING,
        "reply = _new_reply(opened, said",
        "reply = _new_reply(replace(opened, is_unwanted=False), said",
    ),
    _guard(
        "a wish is granted to a regenerate",
        SENDING,
        "reply = _new_reply(opened, prompt",
        "reply = _new_reply(replace(opened, is_unwanted=False), prompt",
    ),
    _guard(
        "a wish takes no reply's place",
        SENDING,
        "if not opened.is_unwanted:  # one that",
        "if opened:  # one that",
    ),
    _guard(
        "a wish starts nothing",
        OPENING,
        "if self.is_unwanted or self.is_busy or lease is None:",
        "if self.is_busy or lease is None:",
    ),
    _guard(
        "a wish is of one request",
        OPENING,
        """            CancelWish.conversation_id == bindparam("wanted"),
            CancelWish.request_id == bindparam("request"),
""",
        """            CancelWish.conversation_id == bindparam("wanted"),
""",
    ),
    _guard(
        "a wish is of one conversation",
        OPENING,
        """            CancelWish.conversation_id == bindparam("wanted"),
            CancelWish.request_id == bindparam("request"),
""",
        """            CancelWish.request_id == bindparam("request"),
""",
    ),
    _guard(
        "an old wish is not granted",
        OPENING,
        "is_unwanted=wish is not None and wish >= locked.now,",
        "is_unwanted=wish is not None,",
    ),
    _guard(
        "a cancel by request finds what was sent",
        CANCELLATION,
        """    if reply_id is not None:
        return cancel_in(s, locked, reply_id)
""",
        """    if not request_id and reply_id is not None:
        return cancel_in(s, locked, reply_id)
""",
    ),
    _guard(
        "a cancel by request means the first reply",
        CANCELLATION,
        ".order_by(Message.position)\n",
        ".order_by(Message.position.desc())\n",
    ),
    _guard(
        "a repeated send changes nothing",
        SENDING,
        """that this request_id stored before, with its reply.\"""
    s.undo()
""",
        """that this request_id stored before, with its reply.\"""
""",
    ),
    _guard(
        "a repeated regenerate changes nothing",
        SENDING,
        """that this request_id asked for before, of that model if any.\"""
    s.undo()
""",
        """that this request_id asked for before, of that model if any.\"""
""",
    ),
    _guard(
        "a wish that is granted is forgotten",
        OPENING,
        "    if wish is not None:\n",
        "    if wish == 0:\n",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a wish that is granted takes no other request's",
        CANCELLATION,
        "CancelWish.conversation_id == locked.id, CancelWish.request_id == request_id",
        "CancelWish.conversation_id == locked.id",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a wish that is granted takes no other conversation's",
        CANCELLATION,
        "CancelWish.conversation_id == locked.id, CancelWish.request_id == request_id",
        "CancelWish.request_id == request_id",
        "tests/stateful/test_found.py",
    ),
)

_CANCELS = (
    _guard(
        "only what waits is cancelled at once",
        CANCELLATION,
        """        .where(Message.id == message_id, is_queued)
""",
        """        .where(Message.id == message_id)
""",
    ),
    _guard(
        "only what is live is asked to end",
        CANCELLATION,
        """        .where(Message.id == message_id, is_generating)
        .values(cancel_requested=True)""",
        """        .where(Message.id == message_id)
        .values(cancel_requested=True)""",
    ),
    _guard(
        "a forced cancel is of a live reply",
        CANCELLATION,
        "(Message.id == message_id, is_generating, Message.cancel_requested.is_(True))",
        "(Message.id == message_id, Message.cancel_requested.is_(True))",
    ),
    _guard(
        "a forced cancel is of a reply that is to be cancelled",
        CANCELLATION,
        ".where(Message.id == message_id, is_generating, Message.cancel_requested.is_(True))",
        ".where(Message.id == message_id, is_generating)",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a forced cancel loses no checkpoint",
        CANCELLATION,
        "        .with_for_update(of=Message)  # a checkpoint",
        "        # a checkpoint",
        "tests/stateful/test_between.py",
    ),
    _guard(
        "a forced cancel ends the owner's epoch",
        CANCELLATION,
        "epoch=Message.epoch + 1,",
        "epoch=Message.epoch,",
    ),
    _guard(
        "a forced cancel keeps text of this attempt only",
        CANCELLATION,
        "content = longer(known, reply.content) if reply.attempt == attempt else reply.content",
        "content = longer(known, reply.content)",
    ),
    _guard(
        "a forced cancel keeps what watchers saw",
        CANCELLATION,
        "content = longer(known, reply.content) if reply.attempt == attempt else reply.content",
        "content = reply.content",
    ),
    _guard(
        "a regenerate cancels what waits",
        SENDING,
        "        cancel_in(s, locked, message_id)\n",
        "        pass\n",
    ),
    _guard(
        "a regenerate supersedes",
        SENDING,
        ".where(Message.reply_to == prompt_id, Message.superseded.is_(False))",
        ".where(Message.reply_to == prompt_id, Message.superseded.is_(True))",
    ),
    _guard(
        "a user's title stays",
        TITLES,
        "if locked.is_titled or ",
        "if ",
    ),
    _guard(
        "no title is made of what was deleted",
        TITLES,
        " or not stands",
        "",
        *DELETION_TESTS,
    ),
    _guard(
        "a title goes with what it was made of",
        DELETION,
        "is_untitled = title_of in prompt_ids",
        "is_untitled = False",
        *DELETION_TESTS,
    ),
    _guard(
        "whoever writes a reply that is deleted owns it no more",
        DELETION,
        "state=case((is_unfinished, State.CANCELLED), else_=Message.state),",
        "state=Message.state,",
        *DELETION_TESTS,
    ),
    _guard(
        "what is deleted is not entered for search",
        INDEXING,
        "if entry.message_id in kept]",
        "if entry.conversation_id in held]",
        "tests/integration/test_indexing.py",
    ),
    _guard(
        "a feed holds nothing that is deleted",
        FEEDS,
        "elif change.erases:",
        "elif change.deleted:",
        "tests/unit/test_feeds.py",
    ),
    _guard(
        "a title is told to watchers",
        TITLES,
        'info_version=bindparam("new_version"),',
        'info_version=Conversation.info_version + 0 * bindparam("new_version"),',
    ),
)

_FEEDS = (
    _guard(
        "a change that skips one is read from the database",
        FEEDS,
        "elif change.version == self.version + 1 and not change.is_hint:",
        "elif change.version > self.version and not change.is_hint:",
    ),
    _guard(
        "a version that was only found is read from the database",
        FEEDS,
        "elif change.version == self.version + 1 and not change.is_hint:",
        "elif change.version == self.version + 1:",
        "tests/unit/test_feeds.py",
    ),
    _guard(
        "an old change is not taken for news",
        FEEDS,
        """        if version > self.version:
            self._recent.clear()""",
        """        if version != self.version:
            self._recent.clear()""",
    ),
    _guard(
        "a feed forgets what its watchers may still need",
        FEEDS,
        "                self.floor += 1\n",
        "                self.floor += 0\n",
    ),
    _guard(
        "what was read is shared only by watchers at the same place",
        FEEDS,
        "if asked == wanted and page.version >= self.version:",
        "if page.version >= self.version:",
        "tests/unit/test_feeds.py",
    ),
    _guard(
        "what was read is shared only until there is more",
        FEEDS,
        "if asked == wanted and page.version >= self.version:",
        "if asked == wanted:",
        "tests/unit/test_feeds.py",
    ),
    _guard(
        "who waits for a read is not told of its reader's end",
        FEEDS,
        "        except Exception as error:\n            read.error = error\n",
        "        except BaseException as error:\n            read.error = error  # type: ignore\n",
        "tests/unit/test_feeds.py",
    ),
    _guard(
        "a watcher knows that it is behind",
        WATCHER,
        "return self._version < self.feed.floor",
        "return False and self._version < self.feed.floor",
    ),
    _guard(
        "events are kept only until something changes",
        FEEDS,
        "        self._serialised.clear()\n        self._serialised_bytes = 0\n",
        "",
        "tests/unit/test_live_text.py",
    ),
    _guard(
        "events are shared only at the same place",
        WATCHER,
        "return self.feed.serialise((*key, *place), make)",
        "return self.feed.serialise(key, make)",
    ),
    _guard(
        "a deleted conversation is told",
        WATCHER,
        "if feed.deleted and not self.done:",
        "if feed.deleted and self.done:",
    ),
    _guard(
        "a page of changes ends with a whole version",
        MESSAGES,
        """        found += [message(row) for row in s.run(_CHANGED_TOGETHER, rest)]
""",
        "",
    ),
    _guard(
        "a page of changes says how far it goes",
        FEED,
        "reached = newest if len(changed) < limit else changed[-1].version",
        "reached = newest",
    ),
    _guard(
        "changes are those after the version",
        MESSAGES,
        'bindparam("conversation"), Message.version > bindparam("v"))',
        'bindparam("conversation"), Message.version > bindparam("v") + 1)',
    ),
    _guard(
        "a title that changed is read",
        FEED,
        "is_due = since < info_version <= reached",
        "is_due = since < info_version < reached",
    ),
)

_WATCHERS = (
    _guard(
        "a token says which change of a reply was seen",
        WATCHER,
        "return row.id != self._at.reply or row.version > self._at.reply_version",
        "return True",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a token stands before a change until its last event",
        WATCHER,
        "self._take_message(row, version if row is rows[-1] else None, events)",
        "self._take_message(row, version, events)",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a token of a send keeps the version of the send",
        WATCHER,
        """        self._version = version
        if not self._only:
            self._at.version = version
""",
        """        self._version = version
        self._at.version = version
""",
    ),
    _guard(
        "a token of a page stands behind it",
        WATCHER,
        """        self._version = page.version
        if not self._only:
            self._at.version = page.version
""",
        """        self._version = page.version
        self._at.version = page.version + 1
""",
    ),
    _guard(
        "a watch's first tokens stand before what is still to come",
        WATCHER,
        "pending = [message.version - 1 for message in unfinished]",
        "pending = [message.version for message in unfinished]",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "each of a watch's first tokens stands before the rest",
        WATCHER,
        "self._at.version = min([newest, *pending[number:]])",
        "self._at.version = newest",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a resync takes no text away",
        WATCHER,
        """            if len(text) >= at.offset:
                events""",
        """            if text is not None:
                events""",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a resync gives no text in advance",
        WATCHER,
        "events.append(self._message(row, text[: at.offset]))",
        "events.append(self._message(row, text))",
    ),
    _guard(
        "a new attempt begins empty",
        WATCHER,
        """            if not follows or row.attempt > at.attempt:
                self._follow(row, 0)""",
        """            if not follows or row.attempt > at.attempt:
                self._follow(row, len(self._text_of(row)))""",
    ),
    _guard(
        "a new attempt is followed",
        WATCHER,
        "if not follows or row.attempt > at.attempt:",
        "if not follows:",
    ),
    _guard(
        "an end shows the rest of the text",
        WATCHER,
        """            self._finish_text(row, events)
            at.offset""",
        """            at.offset""",
    ),
    _guard(
        "an end shows an attempt that nobody saw",
        WATCHER,
        "if row.attempt > self._at.attempt and row.content:",
        "if row.attempt < 0 and row.content:",
    ),
    _guard(
        "a token in an attempt that nobody saw expects the end",
        WATCHER,
        "self._at.reply_version = 0  # its end is still to come",
        "self._at.reply_version = row.version",
    ),
    _guard(
        "nothing follows an end",
        WATCHER,
        """            self._finish_text(row, events)
            at.offset = _ENDED
""",
        """            self._finish_text(row, events)
""",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "what is followed ends before the next begins",
        FEED,
        "return Page(reached, info_version, changed, told, ended)",
        "return Page(reached, info_version, changed, told, None)",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "what is followed ends before the next begins on another page",
        FEED,
        "    if followed and ended is None and not is_whole:\n",
        "    if followed is None:\n",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "what was told early is not told again",
        WATCHER,
        """        if (row.id, row.version) in self._early:
            return False
""",
        "",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "text is of the reply that is followed",
        WATCHER,
        "            or live.message_id != at.reply\n",
        "",
    ),
    _guard(
        "text is of the attempt that is followed",
        WATCHER,
        "            or live.attempt != at.attempt\n",
        "",
    ),
    _guard(
        "text that is not known here yet is waited for",
        WATCHER,
        "            or len(live.text) <= at.offset\n",
        "            or len(live.text) == at.offset\n",
    ),
    _guard(
        "the text of a message is of its attempt",
        WATCHER,
        "if live and live.message_id == row.id and live.attempt == row.attempt:",
        "if live and live.message_id == row.id:",
    ),
    _guard(
        "a reply that has ended has its own text",
        WATCHER,
        "return live.text if row.state == State.GENERATING else row.content",
        "return live.text",
    ),
    _guard(
        "a token goes on in the reply that it names",
        WATCHER,
        """            if row.id != self._at.reply:
                text = self._text_of(row)""",
        """            if row.id:
                text = self._text_of(row)""",
    ),
    _guard(
        "a token that names no reply is caught up with",
        WATCHER,
        """            if row.id != self._at.reply:
                text = self._text_of(row)""",
        """            if not row.id:
                text = self._text_of(row)""",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a repeated send goes on from the text so far",
        WATCHER,
        "self._follow(reply, _ENDED if reply.state > State.GENERATING else len(text))",
        "self._follow(reply, _ENDED if reply.state > State.GENERATING else 0)",
    ),
    _guard(
        "a send ends with its reply",
        WATCHER,
        """        if row.id == self._only and row.state > State.GENERATING:
            self.done = True""",
        """        if row.id == self._only and row.state > State.GENERATING:
            self.done = False""",
        "tests/stateful/test_found.py",
    ),
    _guard(
        "a send shows its own reply only",
        WATCHER,
        "if self._only and row.id != self._only:",
        "if self._only and not row.id:",
        "tests/stateful/test_found.py",
    ),
)

_MIRRORS = (
    _guard(
        "a mirror is of one attempt",
        MIRRORS,
        'or (live.message_id, live.attempt) != (event["message"], event["attempt"])',
        'or live.message_id != event["message"]',
        "tests/unit/test_live_text.py",
    ),
    _guard(
        "a mirror has no gap",
        MIRRORS,
        "if offset > len(live.text):",
        "if offset < 0:",
    ),
    _guard(
        "a mirror drops what overlaps",
        MIRRORS,
        "live.text[:offset] + text",
        "live.text + text",
    ),
    _guard(
        "a mirror never shrinks",
        MIRRORS,
        "if len(text) > len(live.text):",
        "if len(text) != len(live.text):",
        "tests/unit/test_live_text.py",
    ),
    _guard(
        "a mirror is of a later attempt",
        MIRRORS,
        "if not live.is_mirror or live.attempt > row.attempt:",
        "if not live.is_mirror:",
        "tests/unit/test_live_text.py",
    ),
    _guard(
        "what is generated here is no mirror",
        MIRRORS,
        "            or not live.is_mirror\n",
        "",
        "tests/unit/test_live_text.py",
    ),
)

OWNER = "tests/integration/test_owner_gives_up.py"

_PROCESSES = (
    _guard(
        "an owner whose lease is over shows nothing",
        PUBLISHING,
        """        if boottime() >= reply.deadline:
            self._ownership.fence(reply)
            return
""",
        "",
        OWNER,
    ),
    _guard(
        "an owner that was fenced shows nothing",
        PUBLISHING,
        """        if not self._ownership.owns(reply):
            return
        if boottime""",
        """        if boottime""",
        OWNER,
    ),
    _guard(
        "an owner that was suspended looks before it shows more",
        PUBLISHING,
        """        if self.suspend_detector.is_in_doubt():
            self._dirty.add(reply)
            return
""",
        "",
        OWNER,
    ),
    _guard(
        "an owner whose lease is over stores nothing",
        OWNERSHIP,
        "if reply.is_fenced or boottime() >= reply.deadline:",
        "if reply.is_fenced:",
        OWNER,
    ),
    _guard(
        "an owner whose lease is over saves nothing",
        CHECKPOINTS,
        """        for reply in replies
        if boottime() < reply.deadline
""",
        """        for reply in replies
""",
        OWNER,
    ),
    _guard(
        "an owner that could not renew gives up",
        OWNERSHIP,
        """            if boottime() >= reply.deadline:
                self.fence(reply)
""",
        """            pass
""",
        OWNER,
    ),
    _guard(
        "an owner that may not renew gives up",
        OWNERSHIP,
        """            if message_id not in renewed:
                self.fence(reply)
                continue
""",
        """            if message_id not in renewed:
                continue
""",
        OWNER,
    ),
    _guard(
        "an owner hears of a cancel with its renewal",
        OWNERSHIP,
        """            if renewed[message_id] and not reply.is_cancelled:
                self.stop(reply)
""",
        "",
        OWNER,
    ),
    _guard(
        "an owner may go on after its renewal",
        OWNERSHIP,
        "            reply.deadline = deadline\n",
        "",
        OWNER,
    ),
    _guard(
        "an owner that may not save gives up",
        CHECKPOINTS,
        """                if text.message_id in fenced:
                    self._ownership.fence(reply)
                elif""",
        """                if""",
        OWNER,
    ),
)

BATCHES = "tests/integration/test_database_batches.py"
SCOPED = "tests/unit/test_scope.py"

_TRANSACTIONS = (
    _guard(
        "what fails in a batch leaves nothing behind",
        SQLITE,
        """        if not is_kept:
            driver.execute("ROLLBACK TO job")
""",
        "",
        BATCHES,
    ),
    _guard(
        "what is undone in a batch leaves nothing behind",
        SQLITE,
        "is_kept = not session.is_undone",
        "is_kept = True",
        BATCHES,
    ),
    _guard(
        "what fails in a batch takes nothing from the others",
        SQLITE,
        'driver.execute("ROLLBACK TO job")',
        'driver.execute("ROLLBACK")',
        BATCHES,
    ),
    _guard(
        "what the ORM cannot write takes nothing from the others",
        SQLITE,
        "shares_transaction=True",
        "shares_transaction=False",
        BATCHES,
    ),
    _guard(
        "what the ORM wrote is kept",
        SQLITE,
        """                if session.in_transaction():  # the ORM's savepoint
                    session.commit()
""",
        "",
        BATCHES,
    ),
    _guard(
        "nobody hears of an end before the commit",
        SQLITE,
        """        driver.execute("RELEASE job")
""",
        """        driver.execute("RELEASE job")
        job.loop.call_soon_threadsafe(job.deliver)
""",
        BATCHES,
    ),
    _guard(
        "all hear of a commit that failed",
        SQLITE,
        "one.result, one.error = None, one.error or error",
        "one.error = one.error",
        BATCHES,
    ),
    _guard(
        "who has gone keeps nobody from hearing",
        SQLITE,
        """        if self.future.done():  # the caller has gone
            return
""",
        "",
        BATCHES,
    ),
    _guard(
        "what nobody waits for any more is not begun",
        SQLITE,
        "if not job.future.cancelled():",
        "if job:",
        BATCHES,
    ),
    _guard(
        "a statement is an account's",
        SCOPE,
        """    if conditions:
        statement = statement.where(*conditions)  # type: ignore[attr-defined]
    nested""",
        "    nested",
        SCOPED,
    ),
    _guard(
        "each table that a change names is an account's",
        SCOPE,
        "dict.fromkeys((statement.table, *_tables_in(statement.whereclause)))",
        "[statement.table]",
        SCOPED,
    ),
    _guard(
        "a nested select says whose it is",
        SCOPE,
        """            _require(table, inner.whereclause)
""",
        """            pass
""",
        SCOPED,
    ),
    _guard(
        "an outer join says whose it is",
        SCOPE,
        """            _require(table, join.onclause)
""",
        """            pass
""",
        SCOPED,
    ),
    _guard(
        "whose it is means its account",
        SCOPE,
        'if is_of_table and keys <= {"account_id", _ACCOUNT.key}:',
        "if is_of_table:",
        SCOPED,
    ),
    _guard(
        "whose it is is said of each table",
        SCOPE,
        'if is_of_table and keys <= {"account_id", _ACCOUNT.key}:',
        'if keys <= {"account_id", _ACCOUNT.key}:',
        SCOPED,
    ),
    _guard(
        "a row is inserted for its account",
        SCOPE,
        "if whose != {account_id}:",
        "if not whose:",
        SCOPED,
    ),
    _guard(
        "a row is inserted for some account",
        SCOPE,
        "if whose != {account_id}:",
        "if whose - {account_id}:",
        SCOPED,
    ),
    _guard(
        "what cannot be bound is refused",
        SCOPE,
        """    raise Unscoped(f"{type(statement).__name__} cannot be bound to an account")
""",
        """    return ()
""",
        SCOPED,
    ),
    _guard(
        "a member's statement has an audience",
        SCOPE,
        "        return statement.where(*conditions), True  # type: ignore[attr-defined]\n",
        "        return statement, False\n",
        AUDIENCE,
    ),
    _guard(
        "a nested select alone has no audience",
        SCOPE,
        """                raise Unscoped("a nested SELECT alone does not say who sees it")
""",
        """                pass
""",
        AUDIENCE,
    ),
    _guard(
        "who is removed does not come in by the lock",
        CHANGES,
        """    s.is_admitted = False  # what was seen before the lock may be so no more
    if s.run(_SEEN, {"wanted": conversation_id}).one_or_none() is None:
        raise NotFound("CONVERSATION")
""",
        "",
        REMOVED,
    ),
    _guard(
        "a stream looks again who sees the conversation",
        FOLLOWING,
        """            if check_seen is not None:
                await check_seen()
""",
        "",
        SEEN,
        "-k",
        "who_is_removed_end_before",
    ),
    _guard(
        "a stream that is behind looks again",
        WATCHER,
        """        self._notice_audience(page.info_version, page.conversation)
""",
        "",
        "tests/unit/test_feeds.py",
    ),
)

QUOTAS = "server/colloquy_server/database/repository/quotas.py"
AUDIT = "server/colloquy_server/database/repository/audit.py"
QUOTA_LOCKS = "tests/integration/test_quota_locks.py"

_LIMITS = (
    _guard(
        "who takes the last place for a waiting reply keeps others from it",
        QUOTAS,
        "select(*_ROW).where(*_IS_WANTED).with_for_update()",
        "select(*_ROW).where(*_IS_WANTED)",
        QUOTA_LOCKS,
    ),
    _guard(
        "quotas are looked at behind all else in a transaction",
        "server/colloquy_server/database/transactions.py",
        "            for work in self._at_end:",
        "            for work in ():",
        QUOTA_LOCKS,
    ),
    _guard(
        "what is deleted gives its room back",
        QUOTAS,
        "        held.conversations += conversations\n",
        "        held.conversations += max(0, conversations)\n",
        "tests/e2e/test_quotas.py",
        *("-k", "sqlite"),
    ),
    _guard(
        "an event is stored with what was done",
        AUDIT,
        "        add(s, [event])\n        return result\n",
        "        event.is_added = True\n        return result\n",
        "tests/e2e/test_audit.py",
        *("-k", "sqlite and exactly"),
    ),
)

_DELETIONS = (
    _guard(
        "what is kept for the next reply is of nothing that changed",
        EXECUTOR,
        " and version == reply.version + 1:",
        ":",
    ),
    _guard(
        "a deletion counts what is left",
        DELETION,
        ".values(message_count=Conversation.message_count - count, **more)",
        ".values(message_count=Conversation.message_count, **more)",
    ),
    _guard(
        "who is removed takes part no more",
        VIEWERS,
        "            _membership.c.is_removed.is_(False),\n",
        "",
    ),
)

_BUDGETS = (
    _guard(
        "a reply is accepted only while there is something left of a budget",
        COUNTERS,
        "    return used + reserved <= row.limit\n",
        "    return used <= row.limit\n",
        "tests/e2e/test_budgets.py",
    ),
    _guard(
        "an end gives back what was reserved",
        ACCOUNTING,
        "    release(s, locked, [reply.id])\n",
        "",
        "tests/e2e/test_budgets.py",
    ),
    _guard(
        "a takeover books what the owner that died used",
        LEASES,
        "    accounting.book(s, locked, Payer(*found[-2:]), [lost])\n",
        "",
        "tests/e2e/test_bill.py",
    ),
    _guard(
        "what attempts used is booked once, though that is tried again",
        LEASES,
        "if reply.attempt == attempt + 1:",
        "if True:",
        "tests/e2e/test_usage.py",
    ),
    _guard(
        "an answer that is cut off is booked as an estimate",
        "server/colloquy_server/replies/generation.py",
        "if reply.usage is None and answer.may_cost:",
        "if False:",
        "tests/e2e/test_usage.py",
    ),
    _guard(
        "a member sees only what was used for them",
        VIEWERS,
        "    return usage.c.user_id == who.viewer\n",
        "    return usage.c.user_id.is_not(None)\n",
        "tests/e2e/test_usage.py",
    ),
)

GUARDS: tuple[Guard, ...] = (
    *_ORDER,
    *_OWNERS,
    *_TAKEOVERS,
    *_QUEUE,
    *_REQUESTS,
    *_CANCELS,
    *_FEEDS,
    *_WATCHERS,
    *_MIRRORS,
    *_PROCESSES,
    *_TRANSACTIONS,
    *_LIMITS,
    *_DELETIONS,
    *_BUDGETS,
)
