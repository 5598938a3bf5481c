/* Draws the page's figures with plotly, each with its numbers as a table. Adds to the global `xmodel`. */
(() => {
  "use strict";

  const { el, plots } = xmodel;
  const drawn = new Map();
  let number = 0;

  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        watch.unobserve(target);
        begin(target);
      }
    },
    { rootMargin: "300px" },
  );

  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const state = drawn.get(target);
      if (state && target.clientWidth && Math.abs(target.clientWidth - state.width) > 1) paint(state);
    }
  });

  /**
   * Draws a figure as soon as it is about to be seen; a second call for the same element does nothing.
   * @param {HTMLElement} element where; a <figure> keeps its caption under the picture
   * @param {string} name of the chunk figures/NAME
   */
  xmodel.drawFigure = (element, name) => {
    if (element.dataset.drawn !== undefined) return;
    element.dataset.drawn = name;
    const canvas = el("div", { class: "plot-canvas", "aria-busy": "true" });
    const caption = element.querySelector("figcaption");
    element.insertBefore(canvas, caption);
    watch.observe(canvas);
  };

  const begin = async (canvas) => {
    const element = canvas.parentElement;
    const name = element.dataset.drawn;
    try {
      const [figure, plotly] = await Promise.all([xmodel.load(`figures/${name}`), xmodel.library("Plotly")]);
      canvas.removeAttribute("aria-busy");
      element.classList.add(`plot-${figure.kind}`);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${figure.title}. ${figure.caption}`);
      const state = { canvas, figure, plotly, width: 0, chosen: {} };
      if (figure.pick) canvas.before(makeMenu(state));
      element.append(makeNumbers(state));
      drawn.set(canvas, state);
      await paint(state);
      resized.observe(canvas);
    } catch (error) {
      xmodel.showFailure(canvas, error);
    }
  };

  /** Draws, or draws again: for another width, theme or choice. */
  const paint = async (state) => {
    const { canvas, figure, plotly } = state;
    if (!canvas.clientWidth) return;
    state.width = canvas.clientWidth;
    const { data, layout, links } = plots.kinds[figure.kind](figure, state.width, state.chosen);
    // The canvas keeps this height while plotly works, so that nothing below it jumps.
    canvas.style.height = `${layout.height}px`;
    layout.width = state.width;
    await plotly.react(canvas, data, layout, { displayModeBar: false, responsive: false });
    const follows = state.links;
    state.links = links;
    if (!links || follows) return;
    canvas.on("plotly_click", (event) => {
      const link = state.links(event.points[0]);
      if (link) location.hash = link;
    });
    canvas.on("plotly_hover", ({ points }) => {
      canvas.classList.toggle("linked", Boolean(state.links(points[0])));
    });
    canvas.on("plotly_unhover", () => canvas.classList.remove("linked"));
  };

  const makeMenu = (state) => {
    const id = `pick-${(number += 1)}`;
    const change = (event) => {
      state.chosen = { picked: Number(event.target.value) };
      paint(state);
    };
    const options = state.figure.series.map((series, place) =>
      el("option", { value: place, text: plots.cut(series.label, 80) }),
    );
    const all = el("option", { value: -1, text: `all ${state.figure.series.length}` });
    return el(
      "p",
      { class: "plot-menu" },
      el("label", { for: id, text: "In front: " }),
      el("select", { id, on: { change } }, all, options),
    );
  };

  const makeNumbers = (state) => {
    const { figure, canvas } = state;
    const details = el("details", { class: "plot-numbers" }, el("summary", { text: "the numbers" }));
    const fill = () => {
      if (!details.open || details.querySelector("table")) return;
      details.append(makeTable(figure));
    };
    details.addEventListener("toggle", fill);
    const save = () => {
      const { height } = canvas.getBoundingClientRect();
      return plots.save(state.plotly, [canvas], { width: state.width, height, name: figure.name });
    };
    const title = `Save “${figure.title}” as it is shown now`;
    const button = { type: "button", class: "plot-save", title, text: "save as SVG", on: { click: save } };
    return el("div", { class: "plot-foot" }, details, el("button", button));
  };

  const makeTable = ({ title, table }) => {
    const { columns, rows, links = [], cut } = table;
    const isNumber = (value) => value === null || typeof value === "number";
    const numeric = columns.map((_, at) => rows.every((row) => isNumber(row[at])));
    const cell = (value, at) => {
      if (value === null) return el("td", { class: numeric[at] ? "number" : "", text: "–" });
      if (typeof value === "number") {
        const text = Number.isInteger(value) ? xmodel.format.count(value) : xmodel.format.value(value);
        return el("td", { class: "number", text });
      }
      if (typeof value === "boolean") return el("td", { text: value ? "yes" : "no" });
      return el("td", {}, el("bdi", { text: plots.cut(value, 90) }));
    };
    const linked = links.some(Boolean);
    const lines = rows.map((row, place) =>
      el(
        "tr",
        {},
        row.map(cell),
        linked ? el("td", {}, links[place] ? el("a", { href: links[place], text: "open" }) : null) : null,
      ),
    );
    const headings = columns.map((name, at) =>
      el("th", { scope: "col", class: numeric[at] ? "number" : "", text: name }),
    );
    const told = cut ? `${title}: the first ${xmodel.format.count(rows.length)} of ` : title;
    const caption = cut ? `${told}${xmodel.format.count(cut)} rows` : told;
    return el(
      "div",
      { class: "plot-table", role: "region", tabindex: "0", "aria-label": `The numbers of: ${title}` },
      el(
        "table",
        {},
        el("caption", { text: caption }),
        el("thead", {}, el("tr", {}, headings, linked ? el("th", { scope: "col", text: "pair" }) : null)),
        el("tbody", {}, lines),
      ),
    );
  };

  xmodel.onTheme(() => {
    for (const state of drawn.values()) {
      // A figure of a part that is hidden is drawn again when it has a width again.
      state.width = 0;
      paint(state);
    }
  });
})();
