/* What colours mean on the maps, and the legend that says so. Adds `xmodel.mapColors`. */
(() => {
  "use strict";

  const { el } = xmodel;
  const NONE = { light: "#8d96a0", dark: "#79838e" };
  const NO_PARTNER = "not judged or no partner";
  const SCALES = {
    light: ["#a9cfc0", "#62b4bd", "#2c86b5", "#2458a0", "#161c58"],
    dark: ["#3f5470", "#2f7f96", "#46ad96", "#a3d67a", "#fdf3a0"],
  };

  const theme = () => (xmodel.isDark() ? "dark" : "light");
  const parse = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

  /** A place from 0 to 1 on a scale, as a colour. */
  const mix = (colors, place) => {
    const at = Math.min(0.9999, Math.max(0, place)) * (colors.length - 1);
    const low = parse(colors[Math.floor(at)]);
    const high = parse(colors[Math.floor(at) + 1]);
    return `rgb(${low.map((one, channel) => Math.round(one + (at % 1) * (high[channel] - one))).join(",")})`;
  };

  const rateRange = (maps) => {
    let [low, high] = [Infinity, -Infinity];
    for (const side of ["a", "b"]) {
      for (const rate of maps[side].rate) {
        low = Math.min(low, rate);
        high = Math.max(high, rate);
      }
    }
    return [Math.log10(low), Math.max(Math.log10(high), Math.log10(low) + 0.01)];
  };

  const continuous = {
    r: () => ({ place: (own, row) => (own.r[row] === null ? null : Math.abs(own.r[row])) }),
    rate: (maps) => {
      const [low, high] = rateRange(maps);
      return { low, high, place: (own, row) => (Math.log10(own.rate[row]) - low) / (high - low) };
    },
  };

  const concept = (number) => ({
    color: xmodel.plots.colors().series[number % 8],
    symbol: xmodel.plots.symbol(number),
  });

  /**
   * How the points of one side look.
   * @param {Object} maps the chunk "maps"
   * @param {"a"|"b"} side
   * @param {"concept"|"r"|"rate"} by
   * @returns {{color: string[], size: number[], symbol: string[]|string}} for a trace's marker
   */
  const markers = (maps, side, by) => {
    const own = maps[side];
    const rows = own.feature.map((_, row) => row);
    const grey = xmodel.plots.fade(NONE[theme()], 0.55);
    const small = rows.length > 4000 ? 3 : 4.5;
    if (by === "concept") {
      const looks = maps.concepts.map((_, number) => concept(number));
      const of = (row) => looks[own.concept[row]];
      return {
        color: rows.map((row) => of(row)?.color ?? grey),
        size: rows.map((row) => (of(row) ? small + 3 : small)),
        symbol: rows.map((row) => of(row)?.symbol ?? "circle"),
      };
    }
    const { place } = continuous[by](maps);
    const colors = Array.from({ length: 101 }, (_, step) => mix(SCALES[theme()], step / 100));
    const of = (row) => place(own, row);
    return {
      color: rows.map((row) => (of(row) === null ? grey : colors[Math.round(100 * of(row))])),
      size: small + 1.5,
      symbol: "circle",
    };
  };

  const drawConcepts = (maps, lit, onConcept) => {
    const counts = maps.concepts.map((_, number) =>
      ["a", "b"].map((side) => maps[side].concept.filter((one) => one === number).length),
    );
    return el(
      "div",
      { class: "map-concepts", role: "group", "aria-label": "Concepts: a button lights its features" },
      maps.concepts.map((name, number) => {
        const { color, symbol } = concept(number);
        const [a, b] = counts[number];
        const settings = {
          type: "button",
          title: `${a} features of a, ${b} of b`,
          "aria-pressed": String(name === lit),
          on: { click: () => onConcept(name) },
        };
        const swatch = el("span", { class: `map-swatch ${symbol}`, css: { background: color } });
        return el("button", settings, swatch, name);
      }),
      el(
        "span",
        { class: "map-none" },
        el("span", { class: "map-swatch circle", css: { background: NONE[theme()] } }),
        "no concept",
      ),
    );
  };

  const drawScale = (maps, by) => {
    const { low = 0, high = 1 } = continuous[by](maps);
    const words = (power) => xmodel.format.count(10 ** power * xmodel.run.words);
    const [title, ends] =
      by === "r"
        ? [`${xmodel.run.signed ? "|r|" : "r"} of the best partner; grey: ${NO_PARTNER}`, ["0", "1"]]
        : ["words that the feature fires on, logarithmic", [words(low), words(high)]];
    return el(
      "div",
      { class: "map-scale", role: "img", "aria-label": `${title}: from ${ends[0]} to ${ends[1]}` },
      el("span", { text: ends[0] }),
      el("span", {
        class: "map-bar",
        css: { background: `linear-gradient(to right, ${SCALES[theme()].join(", ")})` },
      }),
      el("span", { text: ends[1] }),
      el("span", { class: "map-scale-title", text: title }),
    );
  };

  /**
   * The legend of both maps.
   * @param {Object} maps the chunk "maps"
   * @param {"concept"|"r"|"rate"} by
   * @param {string|null} lit the concept whose features are lit
   * @param {function(string): void} onConcept called with the concept whose button is pressed
   * @returns {HTMLElement}
   */
  const legend = (maps, by, lit, onConcept) =>
    by === "concept" ? drawConcepts(maps, lit, onConcept) : drawScale(maps, by);

  xmodel.mapColors = { markers, legend };
})();
