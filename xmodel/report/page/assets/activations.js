/* How strongly two features fire on the same words: a point per word. Adds to `xmodel`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const KINDS = [
    { name: "both", title: "both fire", color: "text", symbol: "circle" },
    { name: "only_a", title: "only a fires", color: "a", symbol: "square" },
    { name: "only_b", title: "only b fires", color: "b", symbol: "diamond" },
  ];
  const waiting = new WeakMap();
  let shown = null;

  const kindOf = (a, b) => (a && b ? "both" : a ? "only_a" : "only_b");

  /** The word of every point; null where its text is not in the page. */
  const readWords = (scatter) =>
    Promise.all(
      scatter.words.map(async (word) => {
        const text = await xmodel.readText(word, word + 1);
        return { word: text.words[0], document: text.document };
      }),
    );

  /**
   * The block of a pair's activations; `startActivations` draws it once it is in the page.
   * @param {Object} scatter see the chunk pairs/NNNN
   * @param {number} a
   * @param {number} b
   * @returns {HTMLElement}
   */
  xmodel.drawActivations = (scatter, a, b) => {
    const total = scatter.both + scatter.only_a + scatter.only_b;
    const all = scatter.shown === total ? "All" : `${format.count(scatter.shown)} of`;
    const caption =
      `${all} ${format.count(total)} words of both halves on which either fires: ` +
      `both on ${format.count(scatter.both)}, only a on ${format.count(scatter.only_a)}, ` +
      `only b on ${format.count(scatter.only_b)}. ` +
      "Points on an axis are words on which one of the two is silent; the words on which both are, which r " +
      "counts too, are not shown.";
    const label = `Activations of a ${a} and b ${b} on the same words. ${caption}`;
    const canvas = el("div", { id: "activations", role: "img", "aria-label": label });
    const details = el("details", { class: "plot-numbers" }, el("summary", { text: "the numbers" }));
    const save = async () => {
      if (shown?.canvas !== canvas) return; // not drawn yet
      const plotly = await xmodel.library("Plotly");
      const shape = { width: canvas.clientWidth, height: canvas.clientHeight };
      plotly.downloadImage(canvas, { format: "svg", filename: `activations_a${a}_b${b}`, ...shape });
    };
    const title = "Save the activations as they are shown now";
    const button = { type: "button", class: "plot-save", title, text: "save as SVG", on: { click: save } };
    const figure = el(
      "figure",
      {},
      el("h4", { text: "Activations on the same words" }),
      canvas,
      el("figcaption", { text: caption }),
      el("div", { class: "plot-foot" }, details, el("button", button)),
    );
    waiting.set(canvas, { scatter, a, b });
    details.addEventListener("toggle", async () => {
      if (details.open && !details.querySelector("table")) details.append(await drawTable(scatter, a, b));
    });
    return figure;
  };

  const drawTable = async (scatter, a, b) => {
    const words = await readWords(scatter);
    const order = scatter.words.map((_, at) => at);
    const size = (at) => Math.max(Math.abs(scatter.a[at]), Math.abs(scatter.b[at]));
    order.sort((one, other) => size(other) - size(one));
    const rows = order.map((at) =>
      el(
        "tr",
        {},
        el("td", {}, xmodel.word(words[at].word ?? "–")),
        el("td", { class: "number", text: format.value(scatter.a[at]) }),
        el("td", { class: "number", text: format.value(scatter.b[at]) }),
        el("td", {}, xmodel.word(words[at].document)),
      ),
    );
    const titles = ["word", `a ${a}`, `b ${b}`, "document"];
    const heads = titles.map((text, at) =>
      el("th", { scope: "col", class: at === 1 || at === 2 ? "number" : null, text }),
    );
    return el(
      "div",
      { class: "plot-table", role: "region", tabindex: "0", "aria-label": "Activations word by word" },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)),
    );
  };

  const paint = async (canvas, { scatter, a, b }, words) => {
    const plotly = await xmodel.library("Plotly");
    if (!canvas.isConnected) return;
    const { plots } = xmodel;
    const colors = plots.colors();
    const of = scatter.words.map((_, at) => kindOf(scatter.a[at], scatter.b[at]));
    const data = KINDS.map(({ name, title, color, symbol }) => {
      const own = of.flatMap((kind, at) => (kind === name ? [at] : []));
      return {
        type: "scatter",
        mode: "markers",
        name: title,
        x: own.map((at) => scatter.a[at]),
        y: own.map((at) => scatter.b[at]),
        text: own.map((at) => plots.text(plots.cut(words[at].word ?? "", 60))),
        hovertemplate: `<b>%{text}</b><br>a ${a}: %{x}<br>b ${b}: %{y}<extra></extra>`,
        marker: { color: plots.fade(colors[color], 0.65), size: 7, symbol },
        cliponaxis: false,
      };
    }).filter(({ x }) => x.length);
    const layout = plots.layout({
      height: canvas.clientHeight,
      xaxis: plots.axis(`activation of a ${a}`, { rangemode: "tozero" }),
      yaxis: plots.axis(`activation of b ${b}`, { rangemode: "tozero" }),
      showlegend: true,
      margin: { l: 52, r: 14, t: 34, b: 46 },
    });
    layout.width = canvas.clientWidth;
    shown = { canvas, again: () => paint(canvas, { scatter, a, b }, words), width: canvas.clientWidth };
    await plotly.react(canvas, data, layout, { displayModeBar: false, responsive: false });
  };

  const begin = async (canvas) => {
    try {
      const pair = waiting.get(canvas);
      await paint(canvas, pair, await readWords(pair.scatter));
    } catch (error) {
      canvas.removeAttribute("role");
      canvas.removeAttribute("aria-label");
      xmodel.showFailure(canvas, error);
    }
  };

  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        watch.disconnect();
        begin(target);
      }
    },
    { rootMargin: "200px" },
  );

  /**
   * Draws the activations in a container as soon as they are about to be seen.
   * @param {HTMLElement} container
   */
  xmodel.startActivations = (container) => {
    if (shown) globalThis.Plotly.purge(shown.canvas);
    shown = null;
    watch.disconnect();
    const canvas = container.querySelector("#activations");
    if (canvas) watch.observe(canvas);
  };

  xmodel.onTheme(() => shown?.again());
  window.addEventListener("resize", () => {
    if (shown && shown.canvas.clientWidth && shown.canvas.clientWidth !== shown.width) shown.again();
  });
})();
