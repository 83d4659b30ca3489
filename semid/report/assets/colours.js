// Colours of prefixes and items: by a number, by a label, or by the first code.

const STOPS = [
  [49, 54, 149],
  [69, 117, 180],
  [116, 173, 209],
  [200, 200, 190],
  [244, 150, 90],
  [215, 70, 45],
  [150, 10, 40],
];
const LABELS = [
  [74, 127, 193],
  [224, 128, 58],
  [79, 163, 95],
  [192, 90, 142],
  [138, 111, 196],
  [165, 138, 60],
  [63, 163, 163],
  [196, 86, 75],
  [110, 125, 50],
  [90, 100, 160],
];
const GREY = [140, 145, 152];
const NO_VALUE = [66, 70, 80];

class Colours {
  constructor(catalog, column) {
    this.catalog = catalog;
    this.column = column;
    if (column && column.kind === "number")
      [this.low, this.high] = spread(column.values.slice(0, 2));
  }

  node(depth, place, path) {
    if (!this.column) return hue(path.length ? path[0] : this.catalog.depths[0].code[place]);
    const { kind, values, shares } = this.column,
      value = values[depth - 1][place];
    if (kind === "number") return this.number(value);
    const share = shares[depth - 1][place] / 255,
      without =
        this.catalog.without(this.column, { depth, place }) /
        this.catalog.depths[depth - 1].size[place];
    return without > share
      ? mixed(GREY, NO_VALUE, 0.25 + 0.75 * without)
      : mixed(GREY, this.label(value), 0.25 + 0.75 * share);
  }

  item(item) {
    if (!this.column) return hue(this.catalog.sid[item * this.catalog.facts.sid_length]);
    const value = this.column.items[item];
    if (this.column.kind === "number") return this.number(value);
    return value === this.column.labels.length ? NO_VALUE : this.label(value);
  }

  number(value) {
    if (Number.isNaN(value)) return NO_VALUE;
    const along =
      Math.min(Math.max((value - this.low) / (this.high - this.low || 1), 0), 1) *
      (STOPS.length - 1);
    const stop = Math.min(Math.floor(along), STOPS.length - 2);
    return mixed(STOPS[stop], STOPS[stop + 1], along - stop);
  }

  label(value) {
    return (value < this.column.labels.length && LABELS[value]) || GREY;
  }

  // Fill an element with what the colours mean.
  explain(element, ofPrefixes) {
    element.replaceChildren();
    if (!this.column) return element.append("coloured by first code");
    const { name, kind, labels, rare, without } = this.column,
      isKnown = without < this.catalog.facts.items;
    if (kind === "number" && isKnown) {
      const ramp = document.createElement("i");
      ramp.className = "ramp";
      ramp.style.background = `linear-gradient(90deg, ${STOPS.map(css).join(",")})`;
      element.append(
        `${name}${ofPrefixes ? " (mean)" : ""} ${short(this.low)} `,
        ramp,
        ` ${short(this.high)}`,
      );
    } else {
      element.append(name);
      (labels || [])
        .slice(0, LABELS.length)
        .forEach((label, place) => element.append(chip(css(LABELS[place]), label)));
      if (rare || (labels || []).length > LABELS.length) element.append(chip(css(GREY), "others"));
    }
    if (without) element.append(chip(css(NO_VALUE), `no value (${counted(without, "item")})`));
    if (ofPrefixes && isKnown && kind === "label")
      element.append("the greyer a prefix, the more mixed it is");
  }
}

function chip(colour, text) {
  const found = document.createElement("span"),
    dot = document.createElement("i");
  found.className = "chip";
  dot.style.background = colour;
  found.append(dot, text);
  return found;
}

// The range of most values, so that an outlier does not grey out the others.
function spread(arrays) {
  const known = arrays
    .flatMap((values) => Array.from(values))
    .filter((value) => !Number.isNaN(value))
    .sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  return [
    known[Math.floor(0.02 * (known.length - 1))],
    known[Math.ceil(0.98 * (known.length - 1))],
  ];
}

function hue(code) {
  const h = (137.508 * code) % 360,
    f = (n) => {
      const k = (n + h / 30) % 12;
      return 255 * (0.52 - 0.26 * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
    };
  return [f(0), f(8), f(4)];
}

function mixed(one, other, share) {
  return one.map((value, place) => value + share * (other[place] - value));
}
function css(rgb) {
  return `rgb(${rgb.map(Math.round).join(",")})`;
}
function isLight(rgb) {
  return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 140;
}
function short(value) {
  if (value === 0 || (Math.abs(value) >= 0.001 && Math.abs(value) < 10000))
    return String(+value.toPrecision(3));
  return value.toExponential(1);
}
