"""What was used, and how much may be: GetUsage of both services, and the calls about budgets."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

from colloquy.api import admin_service_pb2 as admin_api
from colloquy.api import conversation_service_pb2 as api
from colloquy.api import resources_pb2 as resources

from colloquy_server.api import convert
from colloquy_server.api.access import principal
from colloquy_server.api.handlers import Context
from colloquy_server.api.tokens import decode_page, encode_page, page_size
from colloquy_server.database.models import Period, Unit
from colloquy_server.database.repository import budgets, usage_report
from colloquy_server.database.repository.access import get_account
from colloquy_server.database.repository.audit import audited
from colloquy_server.database.repository.budgets import BudgetState
from colloquy_server.database.repository.usage import NANOS
from colloquy_server.database.repository.usage_report import UsageRow
from colloquy_server.database.transactions import EVERY_ACCOUNT, Database, Session, Viewer
from colloquy_server.errors import InvalidField, PermissionDenied
from colloquy_server.providers.discovery import Discovery

_EPOCH = date(1970, 1, 1)

_GROUPS = {
    resources.USAGE_GROUP_DAY: "day",
    resources.USAGE_GROUP_USER: "user_id",
    resources.USAGE_GROUP_API_KEY: "api_key_id",
    resources.USAGE_GROUP_MODEL: "model",
}


class UsageReports:
    """GetUsage of ConversationService."""

    _db: Database

    async def GetUsage(
        self, request: api.GetUsageRequest, _context: Context
    ) -> api.GetUsageResponse:
        caller = principal.get()
        user_id = request.user_id.lower()
        is_member = isinstance(caller.scope, Viewer)
        if is_member and user_id not in ("", caller.user_id):
            raise PermissionDenied("A member sees only what was used for them.")
        wanted = _Wanted(request)

        def read(s: Session) -> tuple[list[UsageRow], list[BudgetState]]:
            rows = wanted.rows(s)
            return rows, budgets.applying(s, caller.user_id if is_member else None, caller.key_id)

        rows, applying = await self._db.read(caller.scope, read)
        return api.GetUsageResponse(
            rows=map(usage_row, rows), budgets=[budget(state) for state in applying]
        )


class BudgetAdministration:
    """The calls of AdminService about budgets and usage."""

    _db: Database
    _discovery: Discovery

    async def SetBudget(
        self, request: admin_api.SetBudgetRequest, _context: Context
    ) -> admin_api.SetBudgetResponse:
        def check_model() -> None:
            catalog = self._discovery.catalog
            if catalog.find(request.model) is None:
                catalog.resolve(request.model)

        async def set_budget() -> BudgetState:
            return await self._db.write(
                EVERY_ACCOUNT,
                audited(budgets.set_budget),
                request.account_id.lower(),
                request.user_id.lower(),
                request.api_key_id.lower(),
                request.model,
                Period(request.period),
                Unit(request.unit),
                request.limit,
                check_model,
            )

        return admin_api.SetBudgetResponse(
            budget=budget(await self._discovery.choosing(set_budget))
        )

    async def ListBudgets(
        self, request: admin_api.ListBudgetsRequest, _context: Context
    ) -> admin_api.ListBudgetsResponse:
        limit = page_size(request.page_size)
        key = decode_page(request.page_token, str)
        found = await self._db.read(
            EVERY_ACCOUNT,
            budgets.budgets,
            request.account_id.lower(),
            limit=limit + 1,
            after=str(key[0]) if key else "",
        )
        return admin_api.ListBudgetsResponse(
            budgets=[budget(state) for state in found[:limit]],
            next_page_token=encode_page(found[limit - 1].row.id) if len(found) > limit else "",
        )

    async def DeleteBudget(
        self, request: admin_api.DeleteBudgetRequest, _context: Context
    ) -> admin_api.DeleteBudgetResponse:
        await self._db.write(
            EVERY_ACCOUNT, audited(budgets.delete_budget), request.budget_id.lower()
        )
        return admin_api.DeleteBudgetResponse()

    async def GetUsage(
        self, request: admin_api.AdminServiceGetUsageRequest, _context: Context
    ) -> admin_api.AdminServiceGetUsageResponse:
        account_id = request.account_id.lower()
        wanted = _Wanted(request)
        await self._db.read(EVERY_ACCOUNT, get_account, account_id)
        rows = await self._db.read(account_id, wanted.rows)
        return admin_api.AdminServiceGetUsageResponse(rows=map(usage_row, rows))


class _Wanted:
    """What a request asks for."""

    def __init__(
        self, request: api.GetUsageRequest | admin_api.AdminServiceGetUsageRequest
    ) -> None:
        """Raises InvalidField."""
        self._start = _day("start_day", request.start_day)
        self._end = _day("end_day", request.end_day)
        self._groups: Collection[str] = [_GROUPS[group] for group in request.group_by]
        self._user_id = request.user_id.lower()

    def rows(self, s: Session) -> list[UsageRow]:
        """Reads it. Raises NotFound, and InvalidField for days in the wrong order."""
        today = _EPOCH + timedelta(days=usage_report.today(s))
        start = self._start or today.replace(day=1)
        end = self._end or today
        if start > end:
            raise InvalidField({"start_day": f"is after the last day, {end.isoformat()}"})
        first, last = (start - _EPOCH).days, (end - _EPOCH).days
        return usage_report.report(s, first, last, self._groups, self._user_id)


def _day(field: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidField({field: "is no day like 2026-11-01"}) from None


def usage_row(row: UsageRow) -> resources.UsageRow:
    """What was used."""
    day = "" if row.day is None else (_EPOCH + timedelta(days=row.day)).isoformat()
    return resources.UsageRow(
        day=day,
        user=convert.user(row.user) if row.user else None,
        api_key_id=row.api_key_id or "",
        model=row.model or "",
        replies=row.replies,
        input_tokens=row.input_tokens,
        cached_input_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_nanos / NANOS,
        estimated_tokens=row.estimated_tokens,
    )


def budget(state: BudgetState) -> resources.Budget:
    """A budget as it stands."""
    row = state.row
    return resources.Budget(
        id=row.id,
        account_id=row.account_id,
        user_id=row.user_id,
        api_key_id=row.api_key_id,
        model=row.model,
        period=row.period,  # type: ignore[arg-type]
        unit=row.unit,  # type: ignore[arg-type]
        limit=row.max_amount,
        used=row.amount(state.used),
        reserved=row.amount(state.reserved),
        renew_time=convert.timestamp(state.renew_time),
    )
