"""All SQL. Each function takes a Session that `Database` has bound to an account, and is one step
of a transaction or all of it.

    changes.py        the lock that orders everything, and what a transaction changed
    conversations.py  conversations, their lists and titles
    messages.py       sending, regenerating, reading and rating
    leases.py         the life of a reply: who owns it, and what owners may write
    cancelling.py     stopping replies
    history.py        what a reply's model may know, and what it was given
    attachments.py    files, and what was read out of them
    search.py         full-text search
    access.py         accounts, users and keys

The table of guards: every transaction that changes a conversation begins with `changes.lock`;
every write of a reply's owner names the reply's epoch, and raises `Fenced` or reports the reply as
lost when that epoch is over.
"""
