// Two pictures of one place in one frame, left and right of a divider, under the same zoom.

const FACTOR = 1.25;

export class Viewer {
  constructor(stage, divider, shown) {
    Object.assign(this, { stage, divider, shown, split: 0.5, scale: 1, x: 0, y: 0 });
    [this.left, this.right] = stage.querySelectorAll("canvas");
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => (this.fits ? this.fit() : this.draw())).observe(stage);
  }

  // Canvases, and what they are called; what is seen stays in place where the size does.
  show(left, right, leftLabel, rightLabel) {
    const same = this.right.width === right.width && this.right.height === right.height;
    for (const [target, source, label] of [[this.left, left, leftLabel],
                                           [this.right, right, rightLabel]]) {
      target.width = source.width;
      target.height = source.height;
      target.getContext("2d").drawImage(source, 0, 0);
      target.setAttribute("aria-label", label);
    }
    this.stage.style.setProperty("--aspect", right.width / right.height);
    if (same) this.draw();
    else this.fit();
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage;
    this.scale = Math.min(clientWidth / this.right.width, clientHeight / this.right.height);
    this.x = (clientWidth - this.scale * this.right.width) / 2;
    this.y = (clientHeight - this.scale * this.right.height) / 2;
    this.fits = true;
    this.draw();
  }

  // Around a point of the stage, its middle where none is given.
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const scale = Math.min(32, Math.max(0.02, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fits = false;
    this.draw();
  }

  move(x, y) {
    this.x += x;
    this.y += y;
    this.fits = false;
    this.draw();
  }

  divide(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.draw();
  }

  draw() {
    const at = this.split * this.stage.clientWidth;
    for (const canvas of [this.left, this.right]) {
      canvas.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
      canvas.style.imageRendering = this.scale > 2 ? "pixelated" : "auto";
    }
    const inside = Math.max(0, (at - this.x) / this.scale);
    this.right.style.clipPath = `inset(0 0 0 ${inside}px)`;
    this.left.style.clipPath = `inset(0 ${Math.max(0, this.left.width - inside)}px 0 0)`;
    this.divider.style.left = `${at}px`;
    const percent = Math.round(100 * this.split);
    this.divider.setAttribute("aria-valuenow", percent);
    this.divider.setAttribute("aria-valuetext", `${percent} % of the width`);
    this.shown.value = `${Math.round(100 * this.scale)} %`;
  }

  listen() {
    const place = (event) => {
      const box = this.stage.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.divider.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener("pointermove", (event) => {
      if (this.divider.hasPointerCapture(event.pointerId))
        this.divide(place(event)[0] / this.stage.clientWidth);
    });
    this.divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02,
                     PageUp: 0.1, PageDown: -0.1 }[event.key];
      const end = { Home: 0, End: 1 }[event.key];
      if (step === undefined && end === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.divide(end ?? this.split + step);
    });
    this.stage.addEventListener("keydown", (event) => {
      const act = {
        "+": () => this.zoom(FACTOR), "=": () => this.zoom(FACTOR), "-": () => this.zoom(1 / FACTOR),
        0: () => this.fit(), ArrowLeft: () => this.move(40, 0), ArrowRight: () => this.move(-40, 0),
        ArrowUp: () => this.move(0, 40), ArrowDown: () => this.move(0, -40),
      }[event.key];
      if (!act || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      act();
    });
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 500), ...place(event));
    }, { passive: false });
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, place(event));
    });
    this.stage.addEventListener("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) this.zoom(distance(now, other) / distance(before, other), ...other);
      else this.move(now[0] - before[0], now[1] - before[1]);
      this.pointers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"])
      this.stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
