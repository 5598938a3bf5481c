/* What all figures have in common: colours, fonts, axes, texts that are safe. Adds `xmodel.plots`. */
(() => {
  "use strict";

  const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
  const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#a8558a", "#8a6d00", "#2b8cbe", "#555555", "#b2182b"];
  const DARK = ["#5cb3ea", "#f29a4a", "#3fc99a", "#df9fc7", "#e0c341", "#9fd3f5", "#b5b5b5", "#f4837d"];
  const VIRIDIS = [
    ...["#440154", "#482878", "#3e4a89", "#31688e", "#26828e"],
    ...["#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
  ];

  const plots = (xmodel.plots = { kinds: {} });

  /**
   * Makes a text safe for plotly, which reads a little markup in labels: it is shown as it is written.
   * @param {string} text
   * @returns {string}
   */
  plots.text = (text) =>
    String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  /**
   * Breaks a text into lines at spaces, for labels beside or above a mark.
   * @param {string} text
   * @param {number} width pixels there are
   * @param {number} [most] lines; what is more ends in "…"
   * @returns {string} for plotly, safe
   */
  plots.wrap = (text, width, most = 2) => {
    const room = Math.max(8, Math.floor(width / 6.3));
    const lines = [""];
    for (const word of String(text).split(" ")) {
      const last = lines[lines.length - 1];
      if (last && last.length + 1 + word.length > room) lines.push(word);
      else lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
    const kept = lines.slice(0, most);
    if (lines.length > most) kept[most - 1] += " …";
    return kept.map((line) => plots.text(plots.cut(line, room + 2))).join("<br>");
  };

  /**
   * Cuts a text.
   * @param {string} text
   * @param {number} most characters
   * @returns {string}
   */
  plots.cut = (text, most) => {
    const characters = [...String(text)];
    return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : String(text);
  };

  /**
   * How many lines a legend above a figure takes.
   * @param {string[]} labels
   * @param {number} width pixels of the figure
   * @returns {number}
   */
  plots.countLines = (labels, width) => {
    const widest = Math.max(60, ...labels.map((label) => 6.6 * label.length + 46));
    return Math.ceil(labels.length / Math.max(1, Math.floor((width - 66) / widest)));
  };

  /**
   * The colours of the present theme.
   * @returns {{text: string, muted: string, line: string, page: string, a: string, b: string,
   *   series: string[]}}
   */
  plots.colors = () => {
    const dark = xmodel.isDark();
    const own = (name, light, other) => xmodel.color(name) || (dark ? other : light);
    return {
      dark,
      text: own("text", "#1b1f24", "#e6e8eb"),
      muted: own("faint", "#59636e", "#9aa4af"),
      line: own("line", "#d8dde3", "#363c44"),
      page: own("page", "#ffffff", "#16191d"),
      a: own("a", "#0067a8", "#5cb3ea"),
      b: own("b", "#b84f00", "#f29a4a"),
      series: dark ? DARK : LIGHT,
    };
  };

  /** The shape of the points of a category, by its place: another one whenever colours begin anew. */
  plots.symbol = (place) => ["circle", "diamond", "square"][Math.floor(place / LIGHT.length) % 3];

  /**
   * Saves a figure as SVG. What has no opacity gets no fill: some programs paint such a background black.
   * @param {Object} plotly
   * @param {HTMLElement[]} layers that lie upon each other, drawn by plotly, the lowest first
   * @param {{width: number, height: number, name: string, opacity: (number[]|undefined)}} settings
   *   opacity: of each layer
   */
  plots.save = async (plotly, layers, { width, height, name, opacity = [] }) => {
    const outer = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
      outer.setAttribute(key, value);
    }
    for (const [place, layer] of layers.entries()) {
      const address = await plotly.toImage(layer, { format: "svg", width, height });
      const text = decodeURIComponent(address.slice(address.indexOf(",") + 1));
      const own = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
      for (const shape of own.querySelectorAll("[style*='fill-opacity']")) {
        if (Number(shape.style.fillOpacity) !== 0) continue;
        shape.style.fillOpacity = "";
        shape.style.fill = "none";
      }
      own.style.background = "";
      own.setAttribute("opacity", opacity[place] ?? 1);
      outer.append(document.importNode(own, true));
    }
    const file = new Blob([new XMLSerializer().serializeToString(outer)], { type: "image/svg+xml" });
    // Not by xmodel.el, which lets no link leave the page's own addresses.
    const link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(file), download: `${name}.svg` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  /**
   * A colour with less than full strength.
   * @param {string} color #rrggbb; other notations are returned as they are
   * @param {number} alpha
   */
  plots.fade = (color, alpha) => {
    const found = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color);
    if (!found) return color;
    return `rgba(${found.slice(1).map((part) => parseInt(part, 16)).join(",")},${alpha})`;
  };

  /** The title of an axis, of a text that is safe. */
  plots.title = (text) => ({ text, font: { size: 12, color: plots.colors().text }, standoff: 8 });

  /**
   * An axis in the style of the page.
   * @param {string} title
   * @param {Object} [more] what plotly calls these settings
   */
  plots.axis = (title, more = {}) => {
    const { muted, line } = plots.colors();
    return {
      title: plots.title(plots.text(title)),
      tickfont: { size: 11, color: muted },
      gridcolor: plots.fade(line, 0.7),
      linecolor: line,
      zerolinecolor: line,
      tickcolor: line,
      automargin: true,
      showline: true,
      zeroline: false,
      ...more,
    };
  };

  /**
   * A layout in the style of the page.
   * @param {Object} more what plotly calls these settings
   */
  plots.layout = (more) => {
    const { text, page, line } = plots.colors();
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: FONT, size: 12, color: text },
      margin: { l: 52, r: 14, t: 14, b: 46 },
      hoverlabel: { bgcolor: page, bordercolor: line, font: { size: 12, color: text }, align: "left" },
      showlegend: false,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
      dragmode: "zoom",
      modebar: { orientation: "v" },
      ...more,
    };
  };

  /** Viridis: from dark blue to yellow, even to every eye. */
  plots.sequential = () => VIRIDIS.map((color, place) => [place / (VIRIDIS.length - 1), color]);

  /** Blue, neutral, red: for values on both sides of 0. */
  plots.diverging = () => {
    const middle = plots.colors().dark ? "#3a3f46" : "#f4f4f4";
    return [
      [0, "#2166ac"],
      [0.25, plots.colors().dark ? "#3f7fb5" : "#92c5de"],
      [0.5, middle],
      [0.75, plots.colors().dark ? "#c9694f" : "#f4a582"],
      [1, "#b2182b"],
    ];
  };

  const channels = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

  /**
   * Black or white, whichever is easier to read on a colour of a continuous scale.
   * @param {Array} scale places from 0 to 1 and colours
   * @param {number} share where on the scale
   */
  plots.onScale = (scale, share) => {
    const at = Math.max(1, scale.findIndex(([place]) => place >= share));
    const [[from, first], [to, second]] = [scale[at - 1], scale[at]];
    const part = Math.min(1, Math.max(0, (share - from) / (to - from)));
    const last = channels(second);
    const light = channels(first).map((value, place) => {
      const mixed = (value + (last[place] - value) * part) / 255;
      return mixed <= 0.04045 ? mixed / 12.92 : ((mixed + 0.055) / 1.055) ** 2.4;
    });
    // The luminance at which black and white contrast equally (WCAG 2).
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.179 ? "#000000" : "#ffffff";
  };

  /** The bar that explains a continuous scale. */
  plots.colorbar = (title) => ({
    title: { text: plots.text(title), side: "right", font: { size: 11 } },
    thickness: 10,
    outlinewidth: 0,
    len: 0.9,
    tickfont: { size: 11, color: plots.colors().muted },
  });
})();
