/** Which rows of a long list are drawn: those that one sees and some beside, never all. */

/** Rows that are drawn beyond each end of the view, so that scrolling finds them there. */
const BESIDE = 8;

/** Returns the first row that is drawn, and the one after the last. All lengths are pixels. */
export function shownRange(
  view: { top: number; height: number },
  list: { top: number; rowHeight: number; length: number },
): { start: number; end: number } {
  const first = Math.floor((view.top - list.top) / list.rowHeight) - BESIDE;
  const last = Math.ceil((view.top + view.height - list.top) / list.rowHeight) + BESIDE;
  const start = Math.min(Math.max(first, 0), list.length);
  return { start, end: Math.min(Math.max(last, start), list.length) };
}

/**
 * Returns by how many rows what one looks at moved when a list changed: the middle one of the moves
 * of the rows that were seen, so that the one row that went to the top does not count.
 */
export function movedBy(
  seen: readonly string[],
  seenFrom: number,
  positions: ReadonlyMap<string, number>,
): number {
  const moves: number[] = [];
  seen.forEach((id, index) => {
    const position = positions.get(id);
    if (position !== undefined) moves.push(position - (seenFrom + index));
  });
  moves.sort((a, b) => a - b);
  return moves[Math.floor(moves.length / 2)] ?? 0;
}
