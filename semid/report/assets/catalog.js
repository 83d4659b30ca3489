// The tree of prefixes and the items in it. Items and prefixes are in the order of their SIDs, so
// that a prefix is a range of items and its children are a range of the prefixes one code longer.

class Catalog {
  constructor(packed) {
    this.packed = packed;
    this.facts = packed.facts;
    this.ids = packed.lines("ids");
    this.titles = packed.lines("titles");
    this.images = packed.lines("images");
    this.urls = packed.lines("urls");
    this.row = packed.array("row");
    this.sid = packed.array("sid");
    this.near = packed.array("near");
    this.alike = packed.array("alike");
    this.depths = [];
    for (let d = 1; d <= this.facts.depths; d++) this.depths.push(this.depth(d));
    this.columns = this.facts.columns.map((column, c) => this.column(column, c));
  }

  depth(d) {
    const code = this.packed.array(`code_${d}`),
      size = this.packed.array(`size_${d}`);
    const children = this.packed.array(`children_${d}`);
    return { code, size, start: sums(size), first: children && sums(children) };
  }

  column(column, c) {
    const values = this.depths.map((_, d) => this.packed.array(`value_${c}_${d + 1}`));
    const shares = this.depths.map((_, d) => this.packed.array(`share_${c}_${d + 1}`));
    const missing = this.depths.map((_, d) => this.packed.array(`missing_${c}_${d + 1}`));
    const items = this.packed.array(`item_${c}`);
    return { ...column, without: column.missing, values, shares, missing, items };
  }

  // How many items of a prefix have no value in a column.
  without(column, { depth, place }) {
    if (!depth) return column.without;
    const missing = column.missing[depth - 1];
    return missing ? missing[place] : 0;
  }

  // What a column says of a prefix: its mean or most frequent label, and who has no value.
  said(column, node) {
    const { depth, place } = node,
      without = this.without(column, node);
    if (without === this.size(node)) return `${column.name}: no value`;
    const lacks = without ? `${counted(without, "item")} without a value` : "";
    let value = "";
    if (depth && column.kind === "number")
      value = `mean ${column.name} ${short(column.values[depth - 1][place])}`;
    else if (depth) {
      const share = Math.round((100 * column.shares[depth - 1][place]) / 255);
      const label = column.labels[column.values[depth - 1][place]];
      value = `${column.name}: ${label === undefined ? "rare labels" : `${share}% ${label}`}`;
    }
    return value && lacks ? `${value} (${lacks})` : value || (lacks && `${column.name}: ${lacks}`);
  }

  // What a column says of an item.
  valueOf(column, item) {
    const value = column.items[item];
    if (column.kind === "number") return Number.isNaN(value) ? "no value" : short(value);
    return column.labels[value] ?? (value === column.labels.length ? "no value" : "a rare label");
  }

  // A node is { depth, place, path }; the root has depth 0.
  get root() {
    return { depth: 0, place: 0, path: [] };
  }

  size(node) {
    return node.depth ? this.depths[node.depth - 1].size[node.place] : this.facts.items;
  }

  children(node) {
    if (node.depth >= this.depths.length) return [0, 0];
    if (node.depth === 0) return [0, this.depths[0].code.length];
    const { first } = this.depths[node.depth - 1];
    return [first[node.place], first[node.place + 1]];
  }

  child(node, place) {
    const code = this.depths[node.depth].code[place];
    return { depth: node.depth + 1, place, path: [...node.path, code] };
  }

  // The node of a path, or the deepest there is on the way to it.
  find(path) {
    let node = this.root;
    for (const code of path.slice(0, this.depths.length)) {
      const [start, stop] = this.children(node);
      const place = lowerBound(this.depths[node.depth].code, code, start, stop);
      if (place === stop || this.depths[node.depth].code[place] !== code) break;
      node = this.child(node, place);
    }
    return node;
  }

  // The items of a node that the page has details of, as a range.
  itemsOf(node) {
    if (node.depth === 0) return [0, this.row.length];
    const { start } = this.depths[node.depth - 1];
    return [lowerBound(this.row, start[node.place]), lowerBound(this.row, start[node.place + 1])];
  }

  sidOf(item) {
    const width = this.facts.sid_length;
    return Array.from(this.sid.subarray(item * width, (item + 1) * width));
  }

  nodeOf(item) {
    return this.find(this.sidOf(item));
  }

  neighbours(item) {
    const width = this.facts.neighbours,
      found = [];
    for (let k = 0; width && k < width; k++) {
      const other = this.near[item * width + k];
      if (other !== 0xffffffff) found.push([other, this.alike[item * width + k] / 100]);
    }
    return found;
  }

  title(item) {
    return (this.titles && this.titles[item]) || "";
  }

  itemNamed(id) {
    if (!this.byId) this.byId = new Map(this.ids.map((name, item) => [name, item]));
    return this.byId.get(id);
  }

  // Items whose id begins with the text, then those whose id or title holds all its words.
  search(text, limit) {
    const wanted = text.trim().toLowerCase(),
      words = wanted.split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    if (!this.texts)
      this.texts = this.ids.map((id, item) => `${id} ${this.title(item)}`.toLowerCase());
    const first = [],
      others = [];
    for (let item = 0; item < this.texts.length && first.length < limit; item++) {
      if (this.texts[item].startsWith(wanted)) first.push(item);
      else if (others.length < limit && words.every((word) => this.texts[item].includes(word)))
        others.push(item);
    }
    return first.concat(others).slice(0, limit);
  }
}

function counted(count, name) {
  const ending = count === 1 ? "" : name.endsWith("x") ? "es" : "s";
  return `${count.toLocaleString("en")} ${name}${ending}`;
}

function sums(values) {
  const found = new Uint32Array(values.length + 1);
  for (let i = 0; i < values.length; i++) found[i + 1] = found[i] + values[i];
  return found;
}

function lowerBound(values, wanted, start = 0, stop = values.length) {
  while (start < stop) {
    const middle = (start + stop) >> 1;
    if (values[middle] < wanted) start = middle + 1;
    else stop = middle;
  }
  return start;
}
