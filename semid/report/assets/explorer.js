// The explorer: tree, search, breadcrumb, and what is in a prefix or known of an item. What is
// shown stands in the address, so that the back button works: #p=41,7 or #i=<item id>.

const AT_ONCE = 40,
  WORTH_ZOOMING = 9;

class Explorer {
  constructor(catalog, page) {
    this.catalog = catalog;
    this.page = page;
    this.part = (name) => page.querySelector(`[data-part="${name}"]`);
    this.tree = new Treemap(catalog, this.part("tree"), (path) => go(path));
    if (catalog.packed.array("map_x"))
      this.map = new ItemMap(catalog, this.part("map"), (item) => goTo(catalog, item));
    this.search = new Search(catalog, this.part("search"), this.part("found"));
    this.images = this.part("images");
    if (this.images) this.images.addEventListener("change", () => this.show());
    this.choices(this.part("colours"), () => {
      this.colours = null;
      this.show();
    });
    if (this.map)
      this.choices(
        this.part("map-colours"),
        () => {
          this.mapColours = null;
          this.show();
        },
        -1,
      );
    window.addEventListener("hashchange", () => {
      if (location.hash && !/^#[pi]=/.test(location.hash)) return; // a section of the page
      this.show();
      document.getElementById("explorer").scrollIntoView({ block: "nearest" });
    });
    this.show();
  }

  choices(select, onChange, chosen = 0) {
    this.catalog.columns.forEach((column, place) => select.append(new Option(column.name, place)));
    select.append(new Option("first code", -1));
    select.value = this.catalog.columns.length ? chosen : -1;
    select.addEventListener("change", onChange);
  }

  show() {
    const { catalog } = this,
      said = decoded(location.hash.slice(1));
    const item = said.startsWith("i=") ? catalog.itemNamed(said.slice(2)) : undefined;
    const path =
      item !== undefined
        ? catalog.sidOf(item)
        : said.startsWith("p=")
          ? said.slice(2).split(",").filter(Boolean).map(Number)
          : [];
    const node = catalog.find(path);
    // A prefix of few items, or without longer ones, is shown among its siblings.
    let shown = node;
    while (
      shown.depth &&
      (catalog.size(shown) < WORTH_ZOOMING ||
        catalog.children(shown)[0] === catalog.children(shown)[1])
    ) {
      shown = catalog.find(shown.path.slice(0, -1));
    }
    if (!this.colours) {
      this.colours = new Colours(catalog, catalog.columns[this.part("colours").value]);
      this.colours.explain(this.part("legend"), true);
    }
    this.tree.show(shown, node.path, this.colours);
    this.crumbs(node);
    this.panel(node, item);
    if (this.map) {
      if (!this.mapColours) {
        this.mapColours = new Colours(catalog, catalog.columns[this.part("map-colours").value]);
        this.mapColours.explain(this.part("map-legend"), false);
      }
      this.map.show(this.mapColours, catalog.itemsOf(item === undefined ? node : shown), item);
    }
  }

  crumbs(node) {
    const links = [link("all items", "#p=")];
    node.path.forEach((code, d) =>
      links.push(" › ", link(String(code), `#p=${spelled(node.path.slice(0, d + 1))}`)),
    );
    this.part("crumbs").replaceChildren(...links);
  }

  panel(node, item) {
    const { catalog } = this,
      panel = this.part("panel"),
      [start, stop] = catalog.itemsOf(node);
    const parts = item === undefined ? [] : [this.item(item), ...this.beside(item, node)];
    parts.push(
      heading(node.depth ? `Prefix ${spelled(node.path)}` : "All items"),
      this.facts(node),
    );
    const held = stop - start,
      all = catalog.size(node);
    if (held < all)
      parts.push(
        note(
          `${held.toLocaleString("en")} of the ${all.toLocaleString("en")} items here are ` +
            "listed; the page holds a part of the catalog.",
        ),
      );
    parts.push(this.list(Array.from({ length: held }, (_, i) => start + i)));
    panel.replaceChildren(...parts);
    this.part("said").textContent =
      item === undefined
        ? `${node.depth ? `Prefix ${spelled(node.path)}` : "All items"}, ${counted(all, "item")}`
        : `Item ${catalog.ids[item]}`;
  }

  facts(node) {
    const { catalog } = this,
      [start, stop] = catalog.children(node),
      said = [counted(catalog.size(node), "item")];
    if (node.depth) said.push(`${short((100 * catalog.size(node)) / catalog.facts.items)}% of all`);
    if (stop > start) said.push(counted(stop - start, "next code"));
    said.push(...catalog.columns.map((column) => catalog.said(column, node)).filter(Boolean));
    return Object.assign(document.createElement("p"), {
      className: "facts",
      textContent: said.join(" · "),
    });
  }

  item(item) {
    const { catalog } = this,
      card = document.createElement("div");
    card.className = "card";
    card.append(this.picture(item), heading(catalog.title(item) || catalog.ids[item]));
    const rows = [
      ["id", catalog.ids[item]],
      ["semantic ID", spelled(catalog.sidOf(item))],
    ];
    for (const column of catalog.columns) rows.push([column.name, catalog.valueOf(column, item)]);
    const list = document.createElement("dl");
    for (const [name, value] of rows) {
      list.append(
        Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: value }),
      );
    }
    const url = catalog.urls && catalog.urls[item];
    if (url && isWeb(url))
      list.append(document.createElement("dt"), Object.assign(document.createElement("dd"), {}));
    if (url && isWeb(url))
      list.lastChild.append(
        Object.assign(link("open its page", url), { rel: "noopener noreferrer", target: "_blank" }),
      );
    card.append(list);
    return card;
  }

  // The nearest by embedding beside those that share the longest prefix with others.
  beside(item, node) {
    const { catalog } = this,
      near = catalog.neighbours(item);
    let parent = node,
      [start, stop] = catalog.itemsOf(node);
    while (stop - start < 2 && parent.depth) {
      parent = catalog.find(parent.path.slice(0, -1));
      [start, stop] = catalog.itemsOf(parent);
    }
    const siblings = [];
    for (let other = start; other < stop && siblings.length < 8; other++)
      if (other !== item) siblings.push([other]);
    const sides = document.createElement("div");
    sides.className = "sides";
    const side = (title, found, missing) => {
      const box = document.createElement("div");
      box.append(
        heading(title, "h4"),
        found.length
          ? this.list(
              found.map(([other]) => other),
              item,
              new Map(found),
            )
          : note(missing),
      );
      sides.append(box);
    };
    const { neighbours_said: nearSaid } = catalog.facts;
    side(
      `Nearest by embedding${nearSaid && ` (${nearSaid})`}`,
      near,
      "Not known: give --embeddings.",
    );
    if (near.length)
      sides.lastChild.append(
        note("Cosines as they are; those of the worst collisions are less the catalog's mean."),
      );
    side(`With the prefix ${spelled(parent.path) || "(none)"}`, siblings, "No other item.");
    return [sides];
  }

  list(items, of, alike) {
    const list = document.createElement("ul");
    list.className = "items";
    const more = () => {
      const from = list.querySelectorAll("li[data-item]").length,
        next = items.slice(from, from + AT_ONCE).map((item) => this.row(item, of, alike));
      if (list.lastChild) list.lastChild.remove();
      list.append(...next);
      const left = items.length - from - next.length;
      if (left <= 0) return next;
      const button = Object.assign(document.createElement("button"), {
        type: "button",
        textContent: `Show more (${left.toLocaleString("en")} left)`,
      });
      button.addEventListener("click", () => {
        const added = more();
        added[0].querySelector("a").focus();
      });
      list.append(document.createElement("li"));
      list.lastChild.append(button);
      return next;
    };
    more();
    return list;
  }

  row(item, of, alike) {
    const { catalog } = this,
      row = document.createElement("li"),
      sid = document.createElement("code");
    row.dataset.item = item;
    const codes = catalog.sidOf(item),
      theirs = of === undefined ? [] : catalog.sidOf(of);
    let same = 0;
    while (same < theirs.length && codes[same] === theirs[same]) same++;
    if (same)
      sid.append(
        Object.assign(document.createElement("mark"), {
          textContent: spelled(codes.slice(0, same)),
        }),
        same < codes.length ? "," : "",
      );
    sid.append(spelled(codes.slice(same)));
    const name = link(
      catalog.title(item) || catalog.ids[item],
      `#i=${encodeURIComponent(catalog.ids[item])}`,
    );
    name.dir = "auto";
    row.append(this.picture(item), sid, name);
    if (alike && alike.get(item) !== undefined)
      row.append(
        Object.assign(document.createElement("small"), {
          textContent: ` cosine ${alike.get(item).toFixed(2)}`,
        }),
      );
    return row;
  }

  // Images are the one thing that comes from elsewhere, and only when they are asked for.
  picture(item) {
    const url = this.images && this.images.checked && this.catalog.images[item];
    if (!url || !(isWeb(url) || url.startsWith("data:image/")))
      return document.createDocumentFragment();
    return Object.assign(new Image(), {
      referrerPolicy: "no-referrer",
      loading: "lazy",
      alt: "",
      src: url,
    });
  }
}
