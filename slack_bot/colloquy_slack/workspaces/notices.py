"""What whoever installed the app is told, once."""

from __future__ import annotations

import hashlib

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from colloquy_slack.database.engine import Database
from colloquy_slack.database.models import Notice
from colloquy_slack.slack_api import Refused, SlackError
from colloquy_slack.workspaces.installations import Installations
from colloquy_slack.workspaces.scopes import missing_scopes
from colloquy_slack.workspaces.workspace import Workspace

log = structlog.get_logger()


class Notices:
    """Direct messages to those who installed the app."""

    def __init__(self, db: Database, installations: Installations) -> None:
        self._db, self._installations = db, installations

    async def tell_missing_scopes(self, workspace: Workspace) -> None:
        """Tell of what the app may not do, unless that was told before."""
        missing = missing_scopes(workspace.slack.scopes)
        if not missing:
            return
        listed = ", ".join(f"`{scope}`" for scope in missing)
        text = (
            f"I was installed without permissions that I need: {listed}. Until you install me"
            " again, some of what I should do fails."
        )
        notice = hashlib.sha256(" ".join(missing).encode()).hexdigest()
        # Noted first: two processes that tell it at once would tell it twice.
        if not await self._db.run(_note, workspace.team_id, notice):
            return
        installer = await self._installations.installer(workspace.team_id)
        try:
            if installer:
                await workspace.slack.call("chat.postMessage", channel=installer, text=text)
        except Refused as refused:
            log.warning("missing scopes not told", team=workspace.team_id, error=refused.error)
        except SlackError as error:
            log.info("missing scopes not told yet", team=workspace.team_id, error=str(error))
            await self._db.run(_forget, workspace.team_id, notice)


def _note(s: Session, team_id: str, notice: str) -> bool:
    """Note that something is told. Returns whether it was not before."""
    dialect = postgresql if s.get_bind().dialect.name == "postgresql" else sqlite
    values = {"team_id": team_id, "notice": notice}
    statement = dialect.insert(Notice).values(values).on_conflict_do_nothing()
    return s.scalars(statement.returning(Notice.notice)).first() is not None


def _forget(s: Session, team_id: str, notice: str) -> None:
    s.execute(delete(Notice).where(Notice.team_id == team_id, Notice.notice == notice))
