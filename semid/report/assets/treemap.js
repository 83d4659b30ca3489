// The treemap: the children of a prefix as tiles to click, what is in them painted behind.
// Squarified (Bruls, Huizing & van Wijk, 2000). Of many siblings the largest are shown; a tile
// leads to the next ones, large enough to hit and not as large as what is behind it.

const MOST_TILES = 500,
  MOST_INSIDE = 300,
  TURN_SHARE = 0.05;

function squarify(sizes, x, y, width, height) {
  const total = sizes.reduce((a, b) => a + b, 0),
    found = [];
  const scale = (width * height) / (total || 1);
  let place = 0;
  while (place < sizes.length) {
    const side = Math.min(width, height);
    let sum = 0,
      worst = Infinity,
      stop = place;
    while (stop < sizes.length) {
      // as many in this row as make its tiles squarer
      const next = sum + sizes[stop] * scale;
      const big = sizes[place] * scale,
        small = sizes[stop] * scale;
      const ratio = Math.max(
        (side * side * big) / (next * next),
        (next * next) / (side * side * small),
      );
      if (ratio > worst) break;
      worst = ratio;
      sum = next;
      stop++;
    }
    const thick = sum / side || 0;
    let along = 0;
    for (; place < stop; place++) {
      const long = (sizes[place] * scale) / thick || 0;
      found.push(width >= height ? [x, y + along, thick, long] : [x + along, y, long, thick]);
      along += long;
    }
    if (width >= height) {
      x += thick;
      width -= thick;
    } else {
      y += thick;
      height -= thick;
    }
  }
  return found;
}

class Treemap {
  constructor(catalog, box, onPick) {
    this.catalog = catalog;
    this.box = box;
    this.onPick = onPick;
    this.canvas = box.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("aria-hidden", "true");
    this.tiles = box.appendChild(document.createElement("div"));
    this.tiles.setAttribute("role", "group");
    box.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.node && this.draw()).observe(box);
  }

  show(node, selected, colours) {
    const isOther = !this.node || spelled(this.node.path) !== spelled(node.path);
    const isMoved = isOther || spelled(selected) !== spelled(this.selected);
    this.node = node;
    this.selected = selected;
    this.colours = colours;
    if (isOther) this.order();
    if (isMoved) this.page = this.pageOf(selected);
    this.draw();
  }

  // The places of the next codes, the largest first.
  order() {
    const [start, stop] = this.catalog.children(this.node);
    const size = start < stop ? this.catalog.depths[this.node.depth].size : [];
    this.places = Array.from({ length: stop - start }, (_, i) => start + i);
    this.places.sort((a, b) => size[b] - size[a]);
  }

  // Where the selected prefix is among the siblings, or the first ones.
  pageOf(selected) {
    const { node, catalog } = this,
      code = selected[node.depth];
    const codes = this.places.length ? catalog.depths[node.depth].code : [];
    const at = this.places.findIndex((place) => codes[place] === code);
    return Math.floor(Math.max(at, 0) / MOST_TILES);
  }

  turn(page) {
    this.page = page;
    this.draw();
    this.tiles.querySelector('button[tabindex="0"]').focus();
  }

  draw() {
    const { catalog, node } = this,
      held = this.tiles.contains(document.activeElement);
    const width = this.box.clientWidth,
      height = this.box.clientHeight,
      ratio = window.devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.context = this.canvas.getContext("2d");
    this.context.scale(ratio, ratio);
    const [start, stop] = catalog.children(node);
    this.tiles.setAttribute(
      "aria-label",
      `${counted(stop - start, "prefix")} below ${spelled(node.path) || "the root"}; ` +
        "arrow keys move, Enter opens, Backspace goes up",
    );
    if (start === stop) {
      this.tiles.replaceChildren(
        Object.assign(document.createElement("p"), {
          textContent: "No longer prefixes here; the items are listed beside.",
        }),
      );
      return;
    }
    const { size } = catalog.depths[node.depth],
      from = this.page * MOST_TILES;
    const shown = this.places.slice(from, from + MOST_TILES),
      sizes = shown.map((place) => size[place]);
    const turns = [
      [this.page + 1, this.places.slice(from + MOST_TILES), "smaller"],
      [this.page - 1, this.places.slice(0, from), "larger"],
    ];
    const there = turns.filter(([, rest]) => rest.length),
      room = TURN_SHARE * sizes.reduce((a, b) => a + b, 0);
    const sums = there.map(([, rest]) =>
      Math.min(
        rest.reduce((sum, place) => sum + size[place], 0),
        room,
      ),
    );
    this.rects = squarify([...sizes, ...sums], 0, 0, width, height);
    const buttons = shown.map((place, i) => this.tile(catalog.child(node, place), this.rects[i]));
    there.forEach(([page, rest, which], i) =>
      buttons.push(this.others(page, rest, which, this.rects[shown.length + i])),
    );
    const current = Math.max(
      buttons.findIndex((button) => button.getAttribute("aria-current") === "true"),
      0,
    );
    buttons[current].tabIndex = 0;
    this.tiles.replaceChildren(...buttons);
    if (held) buttons[current].focus();
  }

  tile(child, [x, y, width, height]) {
    const size = this.catalog.size(child),
      colour = this.colours.node(child.depth, child.place, child.path);
    const isSelected =
      this.selected.length >= child.depth &&
      child.path.every((code, i) => code === this.selected[i]);
    this.paint(child, colour, x, y, width, height);
    const button = placed(x, y, width, height);
    button.tabIndex = -1;
    button.setAttribute("aria-label", `prefix ${spelled(child.path)}, ${counted(size, "item")}`);
    button.title = `${spelled(child.path)}: ${counted(size, "item")}${this.valueText(child)}`;
    if (isSelected) button.setAttribute("aria-current", "true");
    if (width > 26 && height > 15) {
      button.className = isLight(colour) ? "light" : "dark";
      const code = Object.assign(document.createElement("b"), {
        textContent: child.path[child.path.length - 1],
      });
      button.append(code);
      if (width > 50 && height > 32)
        button.append(
          Object.assign(document.createElement("small"), { textContent: counted(size, "item") }),
        );
      if (width > 70 && height > 58) button.append(this.example(child));
    }
    button.addEventListener("click", () => this.onPick(child.path));
    return button;
  }

  example(child) {
    const [start, stop] = this.catalog.itemsOf(child);
    const title = start < stop ? this.catalog.title(start) : "";
    return Object.assign(document.createElement("small"), {
      className: "example",
      textContent: title,
      dir: "auto",
    });
  }

  others(page, rest, which, [x, y, width, height]) {
    const { size } = this.catalog.depths[this.node.depth];
    const items = rest.reduce((sum, place) => sum + size[place], 0);
    this.context.fillStyle = css(GREY);
    this.context.fillRect(x, y, width, height);
    const button = placed(x, y, width, height);
    button.className = "turn";
    button.tabIndex = -1;
    button.textContent = `${rest.length.toLocaleString("en")} ${which}`;
    const count = rest.length.toLocaleString("en");
    button.title = `show the next of ${count} ${which} prefixes, ${counted(items, "item")}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => this.turn(page));
    return button;
  }

  valueText(child) {
    const { column } = this.colours;
    if (!column) return "";
    return `, ${this.catalog.said(column, child)}`;
  }

  paint(child, colour, x, y, width, height) {
    const { context, catalog } = this;
    context.fillStyle = css(colour);
    context.fillRect(x, y, width, height);
    const [start, stop] = catalog.children(child);
    if (stop - start < 2 || width * height < 500) return;
    const { size } = catalog.depths[child.depth];
    const places = Array.from({ length: stop - start }, (_, i) => start + i)
      .sort((a, b) => size[b] - size[a])
      .slice(0, MOST_INSIDE);
    const inner = squarify(
      places.map((place) => size[place]),
      x,
      y,
      width,
      height,
    );
    context.strokeStyle = "rgba(255,255,255,.28)";
    context.lineWidth = 0.5;
    places.forEach((place, i) => {
      context.fillStyle = css(this.colours.node(child.depth + 1, place, child.path));
      context.fillRect(...inner[i]);
      context.strokeRect(...inner[i]);
    });
  }

  onKey(event) {
    const buttons = [...this.tiles.querySelectorAll("button")],
      at = buttons.indexOf(document.activeElement);
    if (event.key === "Backspace" && this.node.depth) {
      event.preventDefault();
      this.onPick(this.node.path.slice(0, -1));
      return;
    }
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[
      event.key
    ];
    if (!way || at < 0) return;
    event.preventDefault();
    const next = beside(this.rects, at, way, buttons.length);
    if (next < 0) return;
    buttons[at].tabIndex = -1;
    buttons[next].tabIndex = 0;
    buttons[next].focus();
  }
}

// The tile nearest to another one in a direction, or -1.
function beside(rects, at, [dx, dy], count) {
  const middle = ([x, y, width, height]) => [x + width / 2, y + height / 2];
  const [x, y] = middle(rects[at]);
  let best = -1,
    least = Infinity;
  for (let other = 0; other < count; other++) {
    const [ox, oy] = middle(rects[other]),
      ahead = (ox - x) * dx + (oy - y) * dy;
    const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    if (other !== at && ahead > 1 && ahead + 3 * aside < least) {
      least = ahead + 3 * aside;
      best = other;
    }
  }
  return best;
}

function placed(x, y, width, height) {
  const button = document.createElement("button");
  button.type = "button";
  button.style.cssText = `left:${x}px;top:${y}px;width:${width}px;height:${height}px`;
  return button;
}

function spelled(path) {
  return path.join(",");
}
