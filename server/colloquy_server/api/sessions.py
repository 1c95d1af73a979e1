"""SessionService: who the caller is, and where people are signed in with a browser."""

from __future__ import annotations

from collections.abc import Callable

from colloquy.api import session_service_pb2 as api

from colloquy_server.api import convert
from colloquy_server.api.access import (
    AccessControl,
    Principal,
    hash_secret,
    new_session_secret,
    principal,
)
from colloquy_server.api.handlers import Context
from colloquy_server.api.tokens import decode_page, encode_page, page_size
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository import sessions as rows
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database
from colloquy_server.errors import InvalidField, PermissionDenied, Unimplemented


class SessionService:
    """One method an RPC."""

    def __init__(self, db: Database, access: AccessControl, web_url: Callable[[], str]) -> None:
        """`web_url` is where the page is; empty where none is served."""
        self._db = db
        self._access = access
        self._web_url = web_url

    async def GetSession(
        self, _request: api.GetSessionRequest, _context: Context
    ) -> api.GetSessionResponse:
        caller = principal.get()
        name, user, session = await self._db.read(
            EVERY_ACCOUNT, rows.describe, caller.account_id, caller.user_id, caller.session_id
        )
        shown = convert.user(user)
        shown.email = user.email
        return api.GetSessionResponse(
            user=shown,
            account_id=caller.account_id,
            account_name=name,
            role=caller.role,  # type: ignore[arg-type]
            session=convert.session(session, caller.session_id) if session else None,
        )

    async def ListSessions(
        self, request: api.ListSessionsRequest, _context: Context
    ) -> api.ListSessionsResponse:
        caller = principal.get()
        user_id = request.user_id.lower() or caller.user_id
        if user_id != caller.user_id and not _sees_all(caller):
            raise PermissionDenied("Only an account's admin and a service see others' sessions.")
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, int, str)
        found = await self._db.read(
            EVERY_ACCOUNT,
            rows.page,
            caller.account_id,
            user_id,
            limit=limit + 1,
            before=(int(key[0]), str(key[1])) if key else None,
        )
        last = found[limit - 1] if len(found) > limit else None
        return api.ListSessionsResponse(
            sessions=[convert.session(row, caller.session_id) for row in found[:limit]],
            next_page_token=encode_page(last.last_used_time, last.id) if last else "",
        )

    async def RevokeSession(
        self, request: api.RevokeSessionRequest, _context: Context
    ) -> api.RevokeSessionResponse:
        caller = principal.get()
        session_id = request.session_id.lower()
        whose = "" if _sees_all(caller) else caller.user_id
        await self._db.write(
            EVERY_ACCOUNT, audited(rows.revoke), caller.account_id, session_id, whose
        )
        self._access.forget_session(session_id)
        return api.RevokeSessionResponse()

    async def CreateSignInLink(
        self, request: api.CreateSignInLinkRequest, _context: Context
    ) -> api.CreateSignInLinkResponse:
        caller = principal.get()
        if caller.role != KeyRole.SERVICE or not caller.key_id or caller.session_id:
            raise PermissionDenied("Only a service's API key makes links.")
        web_url = self._web_url()
        if not web_url:
            raise Unimplemented("This server serves no page: HTTP_ADDRESS is off.")
        person = convert.author(request.user)
        is_named = bool(person.id or person.external_id)
        code = new_session_secret()
        try:
            made = await self._db.write(
                caller.account_id,
                audited(rows.create_link),
                caller.account_id,
                caller.key_id,
                caller.author(person),
                KeyRole.MEMBER if is_named else KeyRole.SERVICE,
                hash_secret(code),
            )
        except InvalidField as error:
            raise InvalidField({"user.id": next(iter(error.fields.values()))}) from None
        return api.CreateSignInLinkResponse(
            url=link(web_url, code),
            expire_time=convert.timestamp(made.expire_time),
            user=convert.user(made.user),
        )


def link(web_url: str, code: str) -> str:
    """Where the page signs in with a code: behind a #, so that it is in nobody's log."""
    return f"{web_url}/signin#code={code}"


def _sees_all(caller: Principal) -> bool:
    return caller.role in (KeyRole.ADMIN, KeyRole.SERVICE)
