"""The calls of AdminService about budgets and usage, as `admin_calls` has the others."""

from __future__ import annotations

from collections.abc import Sequence

from colloquy.api import admin_service_pb2 as pb
from colloquy.api.resources_pb2 import Budget, UsageGroup
from colloquy.calls import Call, nothing, whole


def set_budget(
    account_id: str,
    limit: float,
    unit: Budget.Unit.ValueType,
    period: Budget.Period.ValueType,
    *,
    user_id: str = "",
    api_key_id: str = "",
    model: str = "",
) -> Call[pb.SetBudgetRequest, pb.SetBudgetResponse, Budget]:
    """Limit what an account, or one user, key or model in it, may use in a day or a month.

    A budget for the same, of the same period and unit, gets the new limit.
    """
    request = pb.SetBudgetRequest(
        account_id=account_id,
        user_id=user_id,
        api_key_id=api_key_id,
        model=model,
        period=period,
        unit=unit,
        limit=limit,
    )
    return Call(lambda to: to.admin.SetBudget, request, lambda a: a.budget)


def list_budgets(
    account_id: str, *, page_size: int = 0, page_token: str = ""
) -> Call[pb.ListBudgetsRequest, pb.ListBudgetsResponse, pb.ListBudgetsResponse]:
    """Return a page of an account's budgets with how far they are used, oldest first."""
    request = pb.ListBudgetsRequest(
        account_id=account_id, page_size=page_size, page_token=page_token
    )
    return Call(lambda to: to.admin.ListBudgets, request, whole)


def delete_budget(
    budget_id: str,
) -> Call[pb.DeleteBudgetRequest, pb.DeleteBudgetResponse, None]:
    """Take a budget away."""
    request = pb.DeleteBudgetRequest(budget_id=budget_id)
    return Call(lambda to: to.admin.DeleteBudget, request, nothing, repeatable=False)


def get_usage(
    account_id: str,
    *,
    start_day: str = "",
    end_day: str = "",
    group_by: Sequence[UsageGroup.ValueType] = (),
    user_id: str = "",
) -> Call[
    pb.AdminServiceGetUsageRequest,
    pb.AdminServiceGetUsageResponse,
    pb.AdminServiceGetUsageResponse,
]:
    """Return what an account used, as `get_usage` of a client for conversations does."""
    request = pb.AdminServiceGetUsageRequest(
        account_id=account_id,
        start_day=start_day,
        end_day=end_day,
        group_by=group_by,
        user_id=user_id,
    )
    return Call(lambda to: to.admin.GetUsage, request, whole)
