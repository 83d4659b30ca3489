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
    box
      .querySelectorAll("[data-zoom]")
      .forEach((button) => button.addEventListener("click", () => this.zoom(+button.dataset.zoom)));
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.canvas.addEventListener("pointermove", (event) => this.onMove(event));
    this.canvas.addEventListener("pointerup", (event) => this.onUp(event));
    this.canvas.addEventListener("pointerleave", () => {
      this.tip.hidden = true;
    });
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  // Colour the dots; those of a range of items stand out, and of these one.
  show(colours, range, item) {
    if (this.colours !== colours) {
      this.colours = colours;
      this.pixels = Uint32Array.from(this.x, (_, item) => pixel(colours.item(item)));
    }
    this.range = range;
    this.picked = item;
    this.draw();
  }

  draw() {
    if (!this.colours || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  at(item) {
    return [
      this.width / 2 + (this.x[item] / 65535 - this.view.x) * this.wide * this.view.zoom,
      this.height / 2 + (this.y[item] / 65535 - this.view.y) * this.high * this.view.zoom,
    ];
  }

  // Pixel by pixel: a hundred thousand rectangles would take too long for a frame.
  paint() {
    const ratio = window.devicePixelRatio || 1,
      { canvas } = this;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    this.high = 0.94 * this.height;
    this.wide = 0.94 * Math.min(this.width, 2.2 * this.height);
    canvas.width = this.width * ratio;
    canvas.height = this.height * ratio;
    if (!canvas.width || !canvas.height) return;
    const context = canvas.getContext("2d"),
      image = context.createImageData(canvas.width, canvas.height);
    const [start, stop] = this.range,
      some = stop - start < this.x.length;
    const room = Math.sqrt((0.1 * this.width * this.height) / this.x.length);
    const size = Math.round(
      ratio * Math.min(Math.max(1.5 * Math.sqrt(this.view.zoom), room, 2.6), 6),
    );
    const dots = new Dots(image, this, ratio);
    dots.draw(0, this.x.length, size, some ? 0x2b : 0xcc);
    if (some) dots.draw(start, stop, size + Math.round(2 * ratio), 0xff);
    context.putImageData(image, 0, 0);
    if (this.picked === undefined) return;
    const [x, y] = this.at(this.picked);
    context.scale(ratio, ratio);
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, 9, 0, 7);
    context.stroke();
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const zoom = Math.min(Math.max(this.view.zoom * factor, 1), 60),
      gain = 1 / this.view.zoom - 1 / zoom;
    this.view.x += ((px - this.width / 2) / this.wide) * gain;
    this.view.y += ((py - this.height / 2) / this.high) * gain;
    this.view.zoom = zoom;
    if (zoom === 1) Object.assign(this.view, { x: 0.5, y: 0.5 });
    this.draw();
  }

  nearest(event) {
    const wide = (this.wide * this.view.zoom) / 65535,
      high = (this.high * this.view.zoom) / 65535;
    const x = (event.offsetX - this.width / 2) / wide + 65535 * this.view.x;
    const y = (event.offsetY - this.height / 2) / high + 65535 * this.view.y;
    let best = -1,
      least = 144;
    for (let item = 0; item < this.x.length; item++) {
      const dx = (this.x[item] - x) * wide,
        dy = (this.y[item] - y) * high,
        apart = dx * dx + dy * dy;
      if (apart < least) {
        least = apart;
        best = item;
      }
    }
    return best;
  }

  onDown(event) {
    this.held = { x: event.offsetX, y: event.offsetY, moved: 0 };
    if (event.pointerType === "mouse") this.canvas.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    if (this.held && event.buttons) {
      const dx = event.offsetX - this.held.x,
        dy = event.offsetY - this.held.y;
      this.held = {
        x: event.offsetX,
        y: event.offsetY,
        moved: this.held.moved + Math.abs(dx) + Math.abs(dy),
      };
      this.view.x -= dx / (this.wide * this.view.zoom);
      this.view.y -= dy / (this.high * this.view.zoom);
      this.draw();
      return;
    }
    const item = this.nearest(event);
    this.tip.hidden = item < 0;
    this.canvas.style.cursor = item < 0 ? "grab" : "pointer";
    if (item < 0) return;
    const name = this.catalog.title(item) || this.catalog.ids[item];
    this.tip.textContent = `${spelled(this.catalog.sidOf(item))}  ${name}`;
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
    const way = {
      ArrowRight: [step, 0],
      ArrowLeft: [-step, 0],
      ArrowDown: [0, step],
      ArrowUp: [0, -step],
    }[event.key];
    if (way) {
      this.view.x += way[0];
      this.view.y += way[1];
      this.draw();
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else return;
    event.preventDefault();
  }
}

// Squares of one colour each, written into an image.
class Dots {
  constructor(image, map, ratio) {
    Object.assign(this, { map, width: image.width, height: image.height });
    this.image = new Uint32Array(image.data.buffer);
    this.wide = (ratio * map.wide * map.view.zoom) / 65535;
    this.high = (ratio * map.high * map.view.zoom) / 65535;
    this.left = (ratio * map.width) / 2 - 65535 * map.view.x * this.wide;
    this.top = (ratio * map.height) / 2 - 65535 * map.view.y * this.high;
  }

  draw(start, stop, size, alpha) {
    const { image, width, height, map } = this,
      half = size >> 1;
    for (let item = start; item < stop; item++) {
      const x = Math.round(this.left + map.x[item] * this.wide) - half,
        y = Math.round(this.top + map.y[item] * this.high) - half;
      if (x < 0 || y < 0 || x + size > width || y + size > height) continue;
      const colour = ((alpha << 24) | map.pixels[item]) >>> 0;
      for (let row = y; row < y + size; row++)
        image.fill(colour, row * width + x, row * width + x + size);
    }
  }
}

function pixel([red, green, blue]) {
  return (Math.round(blue) << 16) | (Math.round(green) << 8) | Math.round(red);
}
