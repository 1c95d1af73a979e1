"""All SQL. Each function takes a Session that `Database` has bound to an account, and is one step
of a transaction or all of it.

    changes.py        the lock that orders everything, and what a transaction changed
    access.py         accounts, users and keys
    conversations.py  conversations and their lists
    participants.py   who takes part in a conversation
    seen.py           which conversations a member sees
    titles.py         titles that are owed
    sending.py        sends and regenerates: prompts and their replies
    opening.py        what a send has to know first
    queue.py          replies that wait, and starting them
    leases.py         live replies: who owns them, and what owners may write
    cancellation.py   stopping replies
    deletion.py       deleting messages, and all that a person said
    messages.py       reading and rating messages
    feed.py           what watchers read: snapshots, and changes since a version
    history.py        what a reply's model may know
    receipts.py       what a reply's model was given
    attachments.py    files, and what was extracted from them
    search.py         full-text search: finding
    indexing.py       full-text search: making what was said findable

The table of guards: every transaction that changes a conversation begins with `changes.lock`;
every write of a reply's owner names the reply's epoch, and raises `Fenced` or reports the reply as
fenced when that epoch is over.
"""
