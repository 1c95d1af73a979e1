/** What somebody used, as a table has it, and which budgets hold for them. */

import type { Budget, UsageRow } from "@colloquy/client";

/** What one model, or all together, used. */
export interface Used {
  readonly model: string;
  readonly replies: number;
  readonly read: number;
  readonly wrote: number;
  readonly cost: number;
  readonly estimated: number;
}

/** Returns what each model used, what costs most first; the rows may be apart in more. */
export function byModel(rows: readonly UsageRow[]): Used[] {
  const models = [...new Set(rows.map(({ model }) => model))];
  return models
    .map((model) => ({ ...together(rows.filter((row) => row.model === model)), model }))
    .sort((one, other) => other.cost - one.cost);
}

/** Returns the sum of all rows. */
export function together(rows: readonly UsageRow[]): Used {
  const sum = (value: (row: UsageRow) => bigint | number): number =>
    rows.reduce((all, row) => all + Number(value(row)), 0);
  return {
    model: "",
    replies: sum(({ replies }) => replies),
    read: sum(({ inputTokens }) => inputTokens),
    wrote: sum(({ outputTokens }) => outputTokens),
    cost: sum(({ costUsd }) => costUsd),
    estimated: sum(({ estimatedTokens }) => estimatedTokens),
  };
}

/** Returns the budgets that hold for a user: an admin is told those of others too. */
export function budgetsOf(
  userId: string,
  budgets: readonly Budget[],
  rows: readonly UsageRow[],
): Budget[] {
  const keys = new Set(rows.map(({ apiKeyId }) => apiKeyId));
  return budgets.filter(
    (one) =>
      (one.userId === "" || one.userId === userId) &&
      (one.apiKeyId === "" || keys.has(one.apiKeyId)),
  );
}

/** Returns which part of a budget is used: 1 for all of it, and more beyond. */
export function shareOf({ used, limit }: Budget): number {
  return limit > 0 ? used / limit : 1;
}
