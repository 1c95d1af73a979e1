const GAP = 4;
const EDGE = 8;

/**
 * Puts a box that is `position: fixed` below an anchor, or above it where there is more room, with
 * its end at the anchor's end, and always inside the window.
 */
export function place(box: HTMLElement, anchor: Element): void {
  const at = anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const below = innerHeight - at.bottom - GAP - EDGE;
  const above = at.top - GAP - EDGE;
  const top = height <= below || below >= above ? at.bottom + GAP : at.top - GAP - height;
  const atEnd = getComputedStyle(anchor).direction === "rtl" ? at.left : at.right - width;
  const left = Math.min(Math.max(atEnd, EDGE), innerWidth - width - EDGE);
  box.style.top = `${Math.max(EDGE, top)}px`;
  box.style.left = `${Math.max(EDGE, left)}px`;
}
