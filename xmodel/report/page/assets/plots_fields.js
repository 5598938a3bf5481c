/* Figures of curves, points and matrices. Adds to `xmodel.plots`. */
(() => {
  "use strict";

  const { plots } = xmodel;
  const { format } = xmodel;
  const MANY_POINTS = 2000;
  const SIGN = "*";
  const BARE = { showticklabels: false, showgrid: false, ticks: "" };
  const DASHES = ["solid", "dash", "dashdot", "longdash"];

  /**
   * Curves with their intervals as bands.
   * @param {Object} figure see figures_json.py
   * @param {number} width pixels
   * @param {{picked?: number}} chosen the series in front, where there are too many to tell apart
   */
  plots.kinds.lines = (figure, width, { picked = -1 } = {}) => {
    const colors = plots.colors();
    const data = [];
    const ordered = figure.series.map((series, place) => ({ series, place }));
    if (picked >= 0) ordered.push(...ordered.splice(picked, 1));
    for (const { series, place } of ordered) {
      const front = place === picked;
      const plain = figure.pick && !front;
      const color = plain ? colors.muted : colors.series[(figure.pick ? 0 : place) % 8];
      const name = plots.text(series.label);
      if (series.low && series.high && !plain) data.push(...bands(series, color, place));
      data.push({
        type: "scatter",
        mode: series.x.length > 40 ? "lines" : "lines+markers",
        name,
        legendgroup: String(place),
        showlegend: !figure.pick || front,
        x: series.x,
        y: series.y,
        opacity: plain ? (picked >= 0 ? 0.25 : 0.55) : 1,
        line: {
          color,
          width: front ? 3 : plain ? 1 : 2,
          dash: series.dashed ? "dot" : figure.pick ? "solid" : DASHES[Math.floor(place / 8) % 4],
        },
        marker: { size: front ? 7 : plain ? 3 : 6, color, symbol: series.dashed ? "circle-open" : "circle" },
        hovertemplate: `${plots.wrap(series.label, 320)}<br>%{x:.4~g}: %{y:.4~g}<extra></extra>`,
      });
    }
    const legend = !figure.pick || picked >= 0;
    const lines = legend ? plots.countLines(figure.series.map((one) => one.label), width) : 0;
    return {
      data,
      layout: plots.layout({
        height: 320 + 18 * lines,
        margin: { l: 52, r: 14, t: 12 + 18 * lines, b: 46 },
        showlegend: legend,
        legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", xanchor: "left" },
        xaxis: plots.axis(figure.x_label, figure.logarithmic ? logarithmic(figure) : {}),
        yaxis: plots.axis(figure.y_label, startsAtZero(figure) ? { rangemode: "tozero" } : {}),
      }),
    };
  };

  /** Whether the axis begins at 0: where curves have but a few points, and no value is negative. */
  const startsAtZero = ({ series }) =>
    series.every(
      ({ x, y, low, high }) =>
        x.length <= 3 && [...y, ...(low ?? []), ...(high ?? [])].every((one) => one === null || one >= 0),
    );

  /** The places where something was measured, if they are few: doses, widths. */
  const logarithmic = (figure) => {
    const places = [...new Set(figure.series.flatMap((series) => series.x))].filter((x) => x > 0);
    if (places.length > 12) return { type: "log", dtick: 1 };
    return { type: "log", tickvals: places, ticktext: places.map((x) => String(Number(x.toPrecision(3)))) };
  };

  /** Intervals as polygons, one for every stretch without a gap. */
  const bands = (series, color, place) => {
    const found = [];
    let run = [];
    const close = () => {
      if (run.length > 1) {
        const back = [...run].reverse();
        found.push({
          type: "scatter",
          mode: "lines",
          fill: "toself",
          fillcolor: plots.fade(color, 0.18),
          line: { width: 0 },
          hoverinfo: "skip",
          showlegend: false,
          legendgroup: String(place),
          x: [...run, ...back].map((at) => series.x[at]),
          y: [...run.map((at) => series.low[at]), ...back.map((at) => series.high[at])],
        });
      }
      run = [];
    };
    series.x.forEach((_, at) => {
      if (series.low[at] === null || series.high[at] === null) close();
      else run.push(at);
    });
    close();
    return found;
  };

  /**
   * A matrix in colours; the first row is at the top.
   * @param {Object} figure see figures_json.py
   * @param {number} width pixels
   */
  plots.kinds.heatmap = (figure, width) => {
    const columns = figure.x.length;
    const rows = figure.y.length;
    const labels = figure.y.map((label) => plots.cut(label, width < 620 ? 14 : 28));
    const left = 30 + Math.min(200, 6.4 * Math.max(1, ...labels.map((label) => label.length)));
    const cell = (width - left - 90) / columns;
    const across = columns * rows > 400 ? cell : Math.max(24, Math.min(cell, 44));
    const height = Math.min(Math.max(rows * across, 60), Math.max(420, 0.8 * width));
    const told = cell >= 46 && height / rows >= 18;
    const scale = figure.diverging ? plots.diverging() : plots.sequential();
    const tall = Math.max(...figure.x.map((label) => label.length)) * 6.4 > cell;
    return {
      data: [
        {
          type: "heatmap",
          z: figure.values,
          x: figure.x.map((_, at) => at),
          y: figure.y.map((_, at) => at),
          colorscale: scale,
          ...spanValues(figure),
          xgap: columns > 60 ? 0 : 1,
          ygap: rows > 60 ? 0 : 1,
          hovertext: figure.values.map((row, y) => row.map((value, x) => hover(figure, y, x, value))),
          hovertemplate: "%{hovertext}<extra></extra>",
          hoverongaps: false,
          colorbar: plots.colorbar(figure.value_label),
        },
        ...signs(figure, told, scale),
      ],
      layout: plots.layout({
        height: Math.round(height) + 40 + (tall ? 70 : 30),
        margin: { l: left, r: 10, t: 12, b: tall ? 90 : 50 },
        xaxis: plots.axis(
          figure.x_label,
          ticks(figure.x, cell, { showgrid: false, tickangle: tall ? -50 : 0 }),
        ),
        yaxis: plots.axis(
          figure.y_label,
          ticks(labels, height / rows, { showgrid: false, autorange: "reversed" }),
        ),
      }),
      links: (point) => figure.links?.[point.y]?.[point.x] ?? null,
    };
  };

  /** Where colours begin and end, so that small differences do not look large; the rules of spans.py. */
  const spanValues = (figure) => {
    let [low, high] = [Infinity, -Infinity];
    for (const value of figure.values.flat()) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    if (!Number.isFinite(low)) return { zmin: 0, zmax: 1 };
    if (figure.limit) {
      return { zmin: figure.diverging ? -figure.limit : Math.min(low, 0), zmax: figure.limit };
    }
    const far = Math.max(Math.abs(low), Math.abs(high)) || 1;
    if (figure.diverging) return { zmin: -far, zmax: far };
    if (low >= 0) return { zmin: 0, zmax: high || 1 };
    const short = Math.max(0, 0.1 - (high - low)) / 2;
    return { zmin: low - short, zmax: high + short };
  };

  /** Values and signs as text: plotly's own choice of black or white is hard to read in the middle. */
  const signs = (figure, told, scale) => {
    const { zmin, zmax } = spanValues(figure);
    const cells = figure.values.flatMap((row, y) =>
      row.flatMap((value, x) => {
        const sign = figure.marked?.[y]?.[x] ? SIGN : "";
        const text = told && value !== null ? `${format.r(value)}${sign}` : sign;
        const share = value === null ? 0 : (value - zmin) / (zmax - zmin);
        return text ? [{ x, y, text, color: plots.onScale(scale, share) }] : [];
      }),
    );
    if (!cells.length) return [];
    return [
      {
        type: "scatter",
        mode: "text",
        hoverinfo: "skip",
        showlegend: false,
        x: cells.map(({ x }) => x),
        y: cells.map(({ y }) => y),
        text: cells.map(({ text }) => text),
        textfont: { size: 11, color: cells.map(({ color }) => color) },
      },
    ];
  };

  const hover = (figure, y, x, value) => {
    const lines = [`${figure.y_label}: ${figure.y[y]}`, `${figure.x_label}: ${figure.x[x]}`];
    lines.push(`${figure.value_label}: ${format.value(value)}`);
    if (figure.hover?.[y]?.[x]) lines.push(figure.hover[y][x]);
    if (figure.marked?.[y]?.[x] && figure.marked_label) lines.push(figure.marked_label);
    return lines.map((line) => plots.text(plots.cut(line, 90))).join("<br>");
  };

  /** Every label, or every second, third, ... where there is no room for all. */
  const ticks = (labels, pixels, more) => {
    const step = Math.max(1, Math.ceil(13 / pixels));
    const kept = labels.map((_, at) => at).filter((at) => at % step === 0);
    return {
      tickmode: "array",
      tickvals: kept,
      ticktext: kept.map((at) => plots.text(plots.cut(labels[at], 28))),
      showline: false,
      ...more,
    };
  };

  /**
   * Points in the plane; with many of them drawn by the graphics card.
   * @param {Object} figure see figures_json.py
   * @param {number} width pixels
   */
  plots.kinds.scatter = (figure, width) => {
    const colors = plots.colors();
    const many = figure.x.length > MANY_POINTS;
    const trace = (places, name, marker, shown) => ({
      type: many ? "scattergl" : "scatter",
      mode: "markers",
      name: plots.text(name),
      showlegend: shown,
      x: places.map((at) => figure.x[at]),
      y: places.map((at) => figure.y[at]),
      customdata: places,
      hovertext: places.map((at) => tell(figure, at)),
      hovertemplate: "%{hovertext}<extra></extra>",
      marker: { size: many ? 4 : 6, opacity: many ? 0.5 : 0.75, ...marker },
    });
    const all = figure.x.map((_, at) => at);
    const data = [];
    if (figure.groups.length) {
      const there = [...new Set(figure.groups)];
      const order = figure.group_order.length ? figure.group_order : there;
      const pick = (name) => all.filter((at) => figure.groups[at] === name);
      for (const name of there.filter((one) => !order.includes(one))) {
        data.push(trace(pick(name), name, { color: plots.fade(colors.muted, 0.5), size: 3 }, true));
      }
      order.forEach((name, place) => {
        const look = { color: colors.series[place % 8], symbol: plots.symbol(place) };
        if (there.includes(name)) data.push(trace(pick(name), name, look, true));
      });
    } else if (figure.color) {
      const known = all.filter((at) => figure.color[at] !== null);
      const unknown = all.filter((at) => figure.color[at] === null);
      if (unknown.length) data.push(trace(unknown, "none", { color: plots.fade(colors.muted, 0.5) }, false));
      const scale = { color: known.map((at) => figure.color[at]), colorscale: plots.sequential() };
      data.push(trace(known, "", { ...scale, colorbar: plots.colorbar(figure.color_label) }, false));
    } else data.push(trace(all, "", { color: colors.a }, false));
    const lines = figure.groups.length ? plots.countLines([...new Set(figure.groups)], width) : 0;
    return {
      data,
      layout: plots.layout({
        height: Math.min(460, Math.max(300, 0.62 * width)) + 18 * lines,
        margin: { l: 52, r: 14, t: 12 + 18 * lines, b: 46 },
        hovermode: "closest",
        showlegend: lines > 0,
        legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", xanchor: "left" },
        xaxis: plots.axis(figure.x_label, figure.bare ? BARE : {}),
        yaxis: plots.axis(figure.y_label, figure.bare ? BARE : {}),
        shapes: figure.diagonal ? [diagonal(figure, colors)] : [],
      }),
      links: (point) => figure.links[point.customdata] || null,
    };
  };

  const tell = (figure, at) => {
    const lines = figure.hover.length ? [figure.hover[at]] : [];
    lines.push(`${figure.x_label}: ${format.value(figure.x[at])}`);
    lines.push(`${figure.y_label}: ${format.value(figure.y[at])}`);
    if (figure.groups.length) lines.push(figure.groups[at]);
    if (figure.color) lines.push(`${figure.color_label}: ${format.value(figure.color[at])}`);
    return lines.map((line) => plots.text(plots.cut(line, 90))).join("<br>");
  };

  const diagonal = (figure, colors) => {
    let low = Infinity;
    let high = -Infinity;
    figure.x.forEach((x, at) => {
      if (x === null || figure.y[at] === null) return;
      low = Math.min(low, Math.max(x, figure.y[at]));
      high = Math.max(high, Math.min(x, figure.y[at]));
    });
    let least = Infinity;
    for (const value of [...figure.x, ...figure.y]) if (value !== null) least = Math.min(least, value);
    const ends = { x0: least, y0: least, x1: high, y1: high };
    return { type: "line", layer: "below", ...ends, line: { color: colors.muted, width: 1, dash: "dot" } };
  };
})();
