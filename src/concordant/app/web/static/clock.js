// How long somebody worked on a question: while the page is seen, has the focus, and there was input within a minute.

const IDLE = 60_000; // ms

export class Clock {
  constructor() {
    this.lastInput = performance.now();
    this.lastTick = performance.now();
    this.restart();
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"]) {
      addEventListener(name, () => { this.tick(); this.lastInput = performance.now(); }, { passive: true });
    }
    setInterval(() => this.tick(), 500);
  }

  restart() {
    this.tick();
    this.active = 0;
    this.begin = performance.now();
  }

  tick() {
    const now = performance.now();
    const gap = now - this.lastTick;
    this.lastTick = now;
    const seen = document.visibilityState === "visible" && document.hasFocus();
    // A gap longer than a tick means that the machine slept, or the browser put the page to rest.
    if (seen && now - this.lastInput < IDLE && gap < 2_000) this.active += gap;
  }

  read() {
    this.tick();
    const wall = Math.round(performance.now() - this.begin);
    return { active_ms: Math.min(Math.round(this.active), wall), wall_ms: wall };
  }
}
