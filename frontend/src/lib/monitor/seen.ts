/** What is so near to the screen gets its picture, so that it is there when it is scrolled to. */
const MARGIN = '240px';

/** Tells whether elements are on the screen, or nearly; one observer for all. */
export class Seen {
  readonly #listeners = new Map<Element, (isSeen: boolean) => void>();
  readonly #observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) this.#listeners.get(target)?.(isIntersecting);
    },
    { rootMargin: MARGIN },
  );

  /** What it returns ends that. */
  follow(element: Element, onSeen: (isSeen: boolean) => void): () => void {
    this.#listeners.set(element, onSeen);
    this.#observer.observe(element);
    return () => {
      this.#observer.unobserve(element);
      this.#listeners.delete(element);
    };
  }
}
