/** The controls stay so long after the last movement or key. */
const SHOWN_MS = 3000;

/** Whether somebody does something with the player, so that its controls have to be there. */
export class Idle {
  isAwake = $state(true);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #root: HTMLElement | undefined;
  #isTouch = false;
  #wasShown = true;

  /** `isShown`: the controls may be there for other reasons too. */
  constructor(private readonly isShown: () => boolean) {}

  /** Listens to the player; what it returns ends that. */
  attach(root: HTMLElement): () => void {
    this.#root = root;
    const left = new AbortController();
    const { signal } = left;
    root.addEventListener('pointermove', (event) => event.pointerType !== 'touch' && this.wake(), { signal });
    root.addEventListener('pointerleave', (event) => event.pointerType !== 'touch' && this.sleep(), {
      signal,
    });
    root.addEventListener('focusin', () => this.wake(), { signal });
    const down = (event: PointerEvent): void => {
      this.#isTouch = event.pointerType === 'touch';
      this.#wasShown = this.isShown();
    };
    root.addEventListener('pointerdown', down, { signal, capture: true });
    root.addEventListener('click', (event) => this.#onClick(event), { signal, capture: true });
    this.wake();
    return () => {
      left.abort();
      clearTimeout(this.#timer);
    };
  }

  wake(): void {
    this.isAwake = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#isHeld()) this.wake();
      else this.isAwake = false;
    }, SHOWN_MS);
  }

  sleep(): void {
    if (this.#isHeld()) return;
    clearTimeout(this.#timer);
    this.isAwake = false;
  }

  /** The focus of the keyboard is in the player, or the mouse on the controls. */
  #isHeld(): boolean {
    if (this.#root?.querySelector(':focus-visible')) return true;
    return !this.#isTouch && this.#root?.querySelector('[data-bar]:hover') != null;
  }

  /** A tap shows the controls or hides them; one that shows them presses none. */
  #onClick(event: MouseEvent): void {
    const target = event.target as Element;
    if (!this.#isTouch) return;
    const isOnBar = target.closest('[data-bar]') !== null;
    if (isOnBar && !this.#wasShown) {
      event.stopPropagation();
      event.preventDefault();
    }
    const isOnPicture = target.closest('button, a, form, summary, [data-bar]') === null;
    if (isOnPicture && this.#wasShown) this.sleep();
    else this.wake();
  }
}
