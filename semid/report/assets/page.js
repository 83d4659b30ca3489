// What runs when the page opens: the theme, the plots, then the explorer.

const toggle = document.getElementById("theme");
toggle.addEventListener("click", () => {
  const root = document.documentElement,
    dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.style.colorScheme || (dark ? "dark" : "light");
  root.style.colorScheme = now === "dark" ? "light" : "dark";
});

const plots = [...document.querySelectorAll(".plot")];
for (const plot of plots) {
  const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
  Plotly.newPlot(plot.querySelector("div"), data, layout, {
    responsive: true,
    displaylogo: false,
    displayModeBar: false,
  });
}
// Paper has a width of its own.
window.addEventListener("beforeprint", () =>
  plots.forEach((plot) => Plotly.relayout(plot.querySelector("div"), { width: 640 })),
);
window.addEventListener("afterprint", () =>
  plots.forEach((plot) =>
    Plotly.relayout(plot.querySelector("div"), { width: null, autosize: true }),
  ),
);

const explorer = document.getElementById("explorer");
if (explorer) {
  const failed = (why) => explorer.replaceChildren(note(`The items cannot be shown: ${why}`));
  if (typeof DecompressionStream === "undefined") {
    failed("this browser cannot unpack them; any of 2023 or later can.");
  } else {
    Packed.from(document.getElementById("packed").textContent)
      .then((packed) => {
        new Explorer(new Catalog(packed), document);
        explorer.dataset.ready = "true";
      })
      .catch((error) => {
        failed(String(error));
        throw error;
      });
  }
}
