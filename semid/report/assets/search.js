// The search: prefixes, items by id, and items by words of their titles.

const MOST_FOUND = 30;

class Search {
  constructor(catalog, input, list) {
    Object.assign(this, { catalog, input, list });
    input.addEventListener("input", () => this.find());
    input.addEventListener("keydown", (event) => this.onKey(event));
    input.addEventListener("blur", () => {
      this.closing = setTimeout(() => this.close(), 150);
    });
  }

  find() {
    clearTimeout(this.closing);
    const text = this.input.value,
      codes = /^\s*\d+([,\s]+\d+)*\s*$/.test(text)
        ? text
            .split(/[,\s]+/)
            .filter(Boolean)
            .map(Number)
        : [];
    const node = this.catalog.find(codes),
      found = [];
    if (codes.length && node.depth >= Math.min(codes.length, this.catalog.depths.length))
      found.push([
        `prefix ${spelled(node.path)}`,
        counted(this.catalog.size(node), "item"),
        () => go(node.path),
      ]);
    for (const item of this.catalog.search(text, MOST_FOUND)) {
      found.push([
        this.catalog.title(item) || this.catalog.ids[item],
        this.catalog.ids[item],
        () => goTo(this.catalog, item),
      ]);
    }
    this.options = found.map(([name, about, act], place) => {
      const option = document.createElement("li");
      option.id = `found-${place}`;
      option.setAttribute("role", "option");
      option.dir = "auto";
      option.append(
        name,
        Object.assign(document.createElement("small"), { textContent: ` ${about}` }),
      );
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        this.take(place);
      });
      return { option, act };
    });
    this.list.replaceChildren(
      ...(this.options.length || !text.trim()
        ? this.options.map(({ option }) => option)
        : [note("nothing found among the items that the page holds", "li")]),
    );
    this.list.hidden = !text.trim();
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    this.mark(this.options.length ? 0 : -1);
  }

  mark(place) {
    this.at = place;
    this.options.forEach(({ option }, other) =>
      option.setAttribute("aria-selected", String(other === place)),
    );
    if (place >= 0) {
      this.input.setAttribute("aria-activedescendant", `found-${place}`);
      this.options[place].option.scrollIntoView({ block: "nearest" });
    } else this.input.removeAttribute("aria-activedescendant");
  }

  take(place) {
    this.options[place].act();
    this.close();
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
  }

  onKey(event) {
    if (event.key === "Escape") return this.close();
    if (this.list.hidden || !this.options.length) return undefined;
    if (event.key === "Enter") this.take(this.at);
    else if (event.key === "ArrowDown") this.mark((this.at + 1) % this.options.length);
    else if (event.key === "ArrowUp")
      this.mark((this.at + this.options.length - 1) % this.options.length);
    else return undefined;
    return event.preventDefault();
  }
}
