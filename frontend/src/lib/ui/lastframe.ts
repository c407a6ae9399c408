/** The last picture of a video on a canvas over it, for as long as the video has nothing to show. */
export class LastFrame {
  /** Counts what was asked for, so that a release that waits does not hide what was kept after it. */
  #round = 0;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly canvas: HTMLCanvasElement,
  ) {}

  /** Draws the current picture and shows it, if the video has one; otherwise what was kept stays. */
  keep(): void {
    this.#round += 1;
    const { videoWidth, videoHeight, readyState } = this.video;
    if (videoWidth === 0 || readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.canvas.width = videoWidth;
    this.canvas.height = videoHeight;
    this.canvas.getContext('2d')?.drawImage(this.video, 0, 0);
    this.canvas.hidden = false;
  }

  /** Hides it as soon as the video shows its next picture. */
  release(): void {
    const round = ++this.#round;
    if (this.canvas.hidden) return;
    if ('requestVideoFrameCallback' in this.video) {
      this.video.requestVideoFrameCallback(() => this.#hide(round));
      return;
    }
    const video: HTMLVideoElement = this.video;
    const look = (): void => {
      const hasPicture = video.videoWidth > 0 && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
      if (round === this.#round && !hasPicture) return;
      video.removeEventListener('timeupdate', look);
      this.#hide(round);
    };
    video.addEventListener('timeupdate', look);
  }

  #hide(round: number): void {
    if (round === this.#round) this.canvas.hidden = true;
  }
}
