/**
 * A text of a conversation in its element: what a reply says, while it is written and after, or what
 * a person wrote.
 */

import { build, type Work } from "./build.ts";
import { parsePerson } from "./parser.ts";
import { MarkdownStream } from "./stream.ts";

/** How many characters are made into nodes at once: a longer text comes in several frames, between
 * which the page takes what its user does. */
const SLICE = 16_384;
/** How much longer than its rendering, until it is painted, one waits for the next: a text that is
 * slow to render leaves most of the time to the page. */
const PATIENCE = 3;
/** From how many characters on a text is long: its blocks are laid out only where one sees them. */
const LONG = 40_000;
/** Milliseconds that all texts together may take of a frame before the next of them waits. */
const SHARE = 8;
/** How many characters at the end of what is shown tell whether a text goes on from there. */
const OVERLAP = 64;

/** The frame that is, and how many milliseconds of it texts have taken. */
const current = { frame: 0, taken: 0 };

/** Shows a reply, which can grow: at most once a frame. */
export class ReplyView {
  private readonly element: Element;
  private stream: MarkdownStream;
  /** All that was to be shown, and how much of it went to the stream. */
  private text = "";
  private fed = 0;
  private live = false;
  private isFinished = false;
  private frame = 0;
  private nextAt = 0;

  constructor(element: Element) {
    this.element = element;
    this.stream = new MarkdownStream(element);
  }

  /** What all so far has cost. */
  get work(): Work {
    return this.stream.work;
  }

  /** Shows a text; `live`: more of it may come. A text that does not go on from what was shown
   * takes its place. */
  show(text: string, live: boolean): void {
    const goesOn =
      !this.isFinished &&
      text.length >= this.text.length &&
      text.slice(Math.max(0, this.fed - OVERLAP), this.fed) ===
        this.text.slice(Math.max(0, this.fed - OVERLAP), this.fed);
    if (this.isFinished && text === this.text) return;
    if (!goesOn) this.restart();
    const first = this.fed === 0;
    this.text = text;
    this.live = live;
    this.element.classList.toggle("long", text.length > LONG);
    // What is there from the start is there with the element, so that nothing moves after it.
    if (first || (!live && text.length - this.fed <= SLICE)) this.step();
    else this.schedule();
  }

  /** Ends what still goes on. */
  destroy(): void {
    cancelAnimationFrame(this.frame);
  }

  private restart(): void {
    this.element.replaceChildren();
    this.stream = new MarkdownStream(this.element);
    this.fed = 0;
    this.isFinished = false;
  }

  private schedule(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame((frame) => {
      this.frame = 0;
      if (frame !== current.frame) Object.assign(current, { frame, taken: 0 });
      const begin = performance.now();
      if ((this.live && begin < this.nextAt) || current.taken > SHARE) {
        this.schedule();
        return;
      }
      this.step();
      current.taken += performance.now() - begin;
      this.waitAfter(begin);
    });
  }

  /** Waits longer the longer the frame takes: most of it is layout, which comes after the script. */
  private waitAfter(begin: number): void {
    if (!this.live) return;
    this.nextAt = Infinity;
    setTimeout(() => {
      const now = performance.now();
      this.nextAt = now + (now - begin) * PATIENCE;
    });
  }

  private step(): void {
    const slice = this.text.slice(this.fed, this.fed + SLICE);
    this.fed += slice.length;
    if (slice !== "") this.stream.append(slice);
    if (this.fed < this.text.length) {
      this.stream.render();
      this.schedule();
    } else if (this.live) this.stream.render();
    else {
      this.stream.finish();
      this.isFinished = true;
    }
  }
}

/** Shows what a person wrote: as it was typed, with its code and links. */
export function showPerson(element: Element, text: string): void {
  element.replaceChildren(...build(parsePerson(text), { nodes: 0, characters: 0 }, true));
}
