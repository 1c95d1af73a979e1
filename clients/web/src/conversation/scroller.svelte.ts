/**
 * Where one is in a conversation: at the end, which is kept in view while it grows, or at something
 * that one reads, which does not move.
 */

import { tick } from "svelte";

/** How near to the end, in pixels, is at the end. */
const NEAR = 4;
/** How near to the beginning, in pixels, older messages are asked for. */
const AHEAD = 1200;

export class Scroller {
  /** The end is in view and stays there. */
  isAtEnd = $state(true);
  /** Something came since the end was left. */
  hasNews = $state(false);

  /** The beginning comes near. */
  onNearBeginning: () => void = () => undefined;

  private box: HTMLElement | undefined;
  private lastTop = 0;
  private observer: ResizeObserver | undefined;

  /** Watches a box that scrolls, and what is in it; returns what ends that. */
  attach(box: HTMLElement, content: HTMLElement): () => void {
    this.box = box;
    const scrolled = (): void => {
      this.scrolled();
    };
    box.addEventListener("scroll", scrolled, { passive: true });
    this.observer = new ResizeObserver(() => {
      if (this.isAtEnd) this.jumpToEnd();
    });
    this.observer.observe(content);
    this.observer.observe(box);
    return () => {
      box.removeEventListener("scroll", scrolled);
      this.observer?.disconnect();
      this.box = undefined;
    };
  }

  /** Shows the end. */
  toEnd(): void {
    this.isAtEnd = true;
    this.hasNews = false;
    this.jumpToEnd();
  }

  /** Shows an element in the middle, and stays there. */
  show(element: Element): void {
    this.isAtEnd = false;
    element.scrollIntoView({ block: "center" });
    this.lastTop = this.box?.scrollTop ?? 0;
  }

  /** Something came that belongs to the end. */
  noteNews(): void {
    if (!this.isAtEnd) this.hasNews = true;
  }

  /** Asks for older messages when the beginning is near. */
  lookAhead(): void {
    if (this.box !== undefined && this.box.scrollTop < AHEAD) this.onNearBeginning();
  }

  /** Does what puts something before what one reads, which stays where it is. */
  async keepPlace(change: () => unknown): Promise<void> {
    const held = this.firstVisible();
    const before = held?.getBoundingClientRect().top ?? 0;
    await change();
    await tick();
    if (held?.isConnected !== true || this.box === undefined || this.isAtEnd) return;
    // Browsers that keep the place by themselves leave nothing to do here.
    this.box.scrollTop += held.getBoundingClientRect().top - before;
    this.lastTop = this.box.scrollTop;
  }

  private firstVisible(): Element | undefined {
    const top = this.box?.getBoundingClientRect().top ?? 0;
    const all = this.box?.querySelectorAll("[data-message-id]") ?? [];
    return [...all].find((one) => one.getBoundingClientRect().bottom > top);
  }

  private jumpToEnd(): void {
    if (this.box === undefined) return;
    this.box.scrollTop = this.box.scrollHeight;
    this.lastTop = this.box.scrollTop;
  }

  private scrolled(): void {
    const { box } = this;
    if (box === undefined) return;
    const left = box.scrollHeight - box.clientHeight - box.scrollTop;
    if (left <= NEAR) {
      this.isAtEnd = true;
      this.hasNews = false;
    } else if (box.scrollTop < this.lastTop) this.isAtEnd = false;
    this.lastTop = box.scrollTop;
    this.lookAhead();
  }
}
