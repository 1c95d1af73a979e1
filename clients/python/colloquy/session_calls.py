"""The calls of SessionService, described as those in `calls`."""

from __future__ import annotations

from colloquy.api import session_service_pb2 as pb
from colloquy.api.resources_pb2 import User
from colloquy.calls import Call


def get_session() -> Call[pb.GetSessionRequest, pb.GetSessionResponse, pb.GetSessionResponse]:
    """Return who the caller is."""
    return Call(lambda to: to.sessions.GetSession, pb.GetSessionRequest(), lambda answer: answer)


def list_sessions(
    *, user_id: str = "", page_size: int = 0, page_token: str = ""
) -> Call[pb.ListSessionsRequest, pb.ListSessionsResponse, pb.ListSessionsResponse]:
    """Return a page of the browsers in which somebody is signed in, the one used last first: of the
    caller's user, or, for an admin and a service, of another one."""
    request = pb.ListSessionsRequest(user_id=user_id, page_size=page_size, page_token=page_token)
    return Call(lambda to: to.sessions.ListSessions, request, lambda answer: answer)


def revoke_session(
    session_id: str,
) -> Call[pb.RevokeSessionRequest, pb.RevokeSessionResponse, None]:
    """End a session. Its streams end within 10 seconds."""
    request = pb.RevokeSessionRequest(session_id=session_id)
    return Call(lambda to: to.sessions.RevokeSession, request, lambda _: None)


def create_sign_in_link(
    user: User | None = None,
) -> Call[pb.CreateSignInLinkRequest, pb.CreateSignInLinkResponse, pb.CreateSignInLinkResponse]:
    """Make a link that signs a browser in once, as this user of the account (a member, added if not
    known yet) or as the account's default user. Only a service's key may."""
    request = pb.CreateSignInLinkRequest(user=user)
    return Call(
        lambda to: to.sessions.CreateSignInLink, request, lambda answer: answer, repeatable=False
    )
