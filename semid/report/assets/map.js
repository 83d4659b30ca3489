// The map: items as dots on a canvas. Drag moves, the buttons, + and - zoom, a click picks an item.

class ItemMap {
  constructor(catalog, box, onPick) {
    this.catalog = catalog;
    this.onPick = onPick;
    this.x = catalog.packed.array("map_x");
    this.y = catalog.packed.array("map_y");
    this.canvas = box.querySelector("canvas");
    this.tip = box.querySelector(".tip");
    this.view = { x: 0.5, y: 0.5, zoom: 1 };
    this.range = [0, 0];
    box.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => this.zoom(+button.dataset.zoom)));
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.canvas.addEventListener("pointermove", (event) => this.onMove(event));
    this.canvas.addEventListener("pointerup", (event) => this.onUp(event));
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  // Colour the dots; those of a range of items stand out, and of these one.
  show(colours, range, item) {
    if (this.colours !== colours) {
      this.colours = colours;
      this.fills = new Map();
      for (let i = 0; i < this.x.length; i++) {
        const fill = css(colours.item(i));
        if (!this.fills.has(fill)) this.fills.set(fill, []);
        this.fills.get(fill).push(i);
      }
    }
    this.range = range;
    this.picked = item;
    this.draw();
  }

  draw() {
    if (!this.colours || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  at(item) {
    return [
      this.width / 2 + (this.x[item] / 65535 - this.view.x) * this.wide * this.view.zoom,
      this.height / 2 + (this.y[item] / 65535 - this.view.y) * this.high * this.view.zoom,
    ];
  }

  paint() {
    const ratio = window.devicePixelRatio || 1, { canvas } = this;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    this.high = 0.94 * this.height;
    this.wide = 0.94 * Math.min(this.width, 2.2 * this.height);
    canvas.width = this.width * ratio;
    canvas.height = this.height * ratio;
    const context = canvas.getContext("2d"), some = this.range[1] - this.range[0] < this.x.length;
    context.scale(ratio, ratio);
    const dot = Math.min(Math.max(2.4 * Math.sqrt(this.view.zoom), Math.sqrt((0.12 * this.width * this.height) / this.x.length)), 6);
    const dots = (within, size) => {
      for (const [fill, items] of this.fills) {
        context.fillStyle = fill;
        for (const item of items) {
          if ((item >= this.range[0] && item < this.range[1]) !== within) continue;
          const [x, y] = this.at(item);
          context.fillRect(x - size / 2, y - size / 2, size, size);
        }
      }
    };
    context.globalAlpha = some ? 0.13 : 0.8;
    dots(!some, dot);
    context.globalAlpha = 1;
    if (some) dots(true, dot + 2);
    if (this.picked !== undefined) {
      const [x, y] = this.at(this.picked);
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, 8, 0, 7);
      context.stroke();
    }
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const zoom = Math.min(Math.max(this.view.zoom * factor, 1), 60), gain = 1 / this.view.zoom - 1 / zoom;
    this.view.x += ((px - this.width / 2) / this.wide) * gain;
    this.view.y += ((py - this.height / 2) / this.high) * gain;
    this.view.zoom = zoom;
    if (zoom === 1) Object.assign(this.view, { x: 0.5, y: 0.5 });
    this.draw();
  }

  nearest(event) {
    let best = -1, least = 144;
    for (let item = 0; item < this.x.length; item++) {
      const [x, y] = this.at(item), apart = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (apart < least) { least = apart; best = item; }
    }
    return best;
  }

  onDown(event) {
    this.held = { x: event.offsetX, y: event.offsetY, moved: 0 };
    if (event.pointerType === "mouse") this.canvas.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    if (this.held && event.buttons) {
      const dx = event.offsetX - this.held.x, dy = event.offsetY - this.held.y;
      this.held = { x: event.offsetX, y: event.offsetY, moved: this.held.moved + Math.abs(dx) + Math.abs(dy) };
      this.view.x -= dx / (this.wide * this.view.zoom);
      this.view.y -= dy / (this.high * this.view.zoom);
      this.draw();
      return;
    }
    const item = this.nearest(event);
    this.tip.hidden = item < 0;
    this.canvas.style.cursor = item < 0 ? "grab" : "pointer";
    if (item < 0) return;
    this.tip.textContent = `${spelled(this.catalog.sidOf(item))}  ${this.catalog.title(item) || this.catalog.ids[item]}`;
    this.tip.style.left = `${Math.min(event.offsetX + 12, Math.max(this.width - 260, 0))}px`;
    this.tip.style.top = `${event.offsetY + 14}px`;
  }

  onUp(event) {
    const moved = this.held ? this.held.moved : 0;
    this.held = null;
    const item = moved < 4 ? this.nearest(event) : -1;
    if (item >= 0) this.onPick(item);
  }

  // Only with a modifier, or where the map has the focus: the page must scroll over it.
  onWheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }

  onKey(event) {
    const step = 0.1 / this.view.zoom;
    const way = { ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowDown: [0, step], ArrowUp: [0, -step] }[event.key];
    if (way) { this.view.x += way[0]; this.view.y += way[1]; this.draw(); }
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else return;
    event.preventDefault();
  }
}
