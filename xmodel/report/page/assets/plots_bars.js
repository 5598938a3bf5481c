/* Figures made of bars: the attrition ledger, histograms with what was observed. Adds to `xmodel.plots`. */
(() => {
  "use strict";

  const { plots } = xmodel;
  const { format } = xmodel;
  const ROW = 46;
  const LABEL = 15;
  const TAG = 17;
  const [LEFT, RIGHT, TALL] = [62, 14, 170];

  /** How many characters of a count fit is known beforehand: digits are about this wide. */
  const measure = (text) => 6.6 * text.length + 10;

  /**
   * One filter after another: a bar of what came through, and what was left out beside it.
   * @param {Object} figure see figures_json.py
   * @param {number} width pixels
   */
  plots.kinds.flow = (figure, width) => {
    const colors = plots.colors();
    const { stages } = figure;
    const first = new Map();
    for (const stage of stages) if (!first.has(stage.group)) first.set(stage.group, stage.entered);
    const room = Math.max(...stages.map((stage) => measure(told(stage))), 80);
    const places = [];
    let place = 0;
    let group = null;
    for (const stage of stages) {
      if (group !== null && stage.group !== group) place += 0.45;
      group = stage.group;
      places.push(place);
      place += 1;
    }
    const share = (stage, value) => (first.get(stage.group) ? value / first.get(stage.group) : 0);
    const tone = { "features a": colors.a, "features b": colors.b };
    const tones = stages.map((stage) => tone[stage.group] ?? colors.muted);
    const bar = (name, values, pattern) => ({
      type: "bar",
      orientation: "h",
      name,
      x: values,
      y: places,
      width: 0.26,
      marker: { color: tones, line: { width: 0 }, pattern },
      hovertext: stages.map(
        (stage) =>
          `${plots.wrap(`${stage.group}: ${stage.label}`, 380, 4)}<br>` +
          `${format.count(stage.entered)} → ${format.count(stage.passed)}, ` +
          `${format.count(stage.entered - stage.passed)} left out`,
      ),
      hoverinfo: "text",
    });
    const passed = stages.map((stage) => share(stage, stage.passed));
    const lost = stages.map((stage) => share(stage, stage.entered - stage.passed));
    const label = Math.max(120, width - 28 - room);
    const annotations = stages.flatMap((stage, row) => [
      {
        text: plots.wrap(`${stage.group}: ${stage.label}`, label, 2),
        x: 0,
        y: places[row] - 0.2,
        xanchor: "left",
        yanchor: "bottom",
        align: "left",
        showarrow: false,
        font: { size: 12 },
        xshift: -2,
      },
      {
        text: told(stage),
        x: 1,
        y: places[row] - 0.2,
        xanchor: "right",
        yanchor: "bottom",
        showarrow: false,
        font: { size: 12, color: stage.entered > stage.passed ? colors.text : colors.muted },
      },
    ]);
    const narrow = width < 620;
    const row = narrow ? ROW + LABEL : ROW;
    return {
      data: [
        bar("came through", passed, {}),
        bar("left out", lost, { shape: "/", size: 5, solidity: 0.45 }),
      ],
      layout: plots.layout({
        barmode: "stack",
        height: Math.round((place + 0.3) * row) + 34,
        margin: { l: 8, r: 8, t: 30, b: 4 },
        showlegend: true,
        legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", traceorder: "normal" },
        xaxis: { visible: false, range: [0, 1.0005], fixedrange: true },
        yaxis: { visible: false, range: [place - 0.55, -0.85], fixedrange: true },
        annotations,
      }),
    };
  };

  const told = (stage) => {
    const left = stage.entered - stage.passed;
    if (!left) return `all ${format.count(stage.passed)}`;
    return `${format.count(stage.passed)} of ${format.count(stage.entered)} (−${format.count(left)})`;
  };

  const tag = (label) => 6.5 * label.length + 10;

  /** A range in which every mark has room for its label, which begins at its line. */
  const makeRange = (low, high, marks, pixels) => {
    const reach = high - low || Math.abs(high) || 1;
    const first = low - 0.04 * reach;
    let last = high + 0.04 * reach;
    for (const { label, value } of marks) {
      const rest = Math.max(pixels - tag(label), 0.25 * pixels);
      last = Math.max(last, first + ((value - first) * pixels) / rest);
    }
    return [first, last];
  };

  /** Labels over lines: from right to left, each above all lines and labels that it would touch. */
  const stack = (marks, range, pixels) => {
    const placed = [];
    for (const mark of [...marks].sort((one, other) => other.value - one.value)) {
      const left = ((mark.value - range[0]) / (range[1] - range[0])) * pixels;
      const touched = placed.filter((other) => other.left < left + tag(mark.label));
      placed.push({ ...mark, left, row: Math.max(-1, ...touched.map(({ row }) => row)) + 1 });
    }
    return placed;
  };

  /**
   * Distributions, and lines where single values fall; the first mark is drawn strongest.
   * @param {Object} figure see figures_json.py
   * @param {number} width pixels
   */
  plots.kinds.histogram = (figure, width) => {
    const colors = plots.colors();
    const marks = figure.marks
      .filter(([, value]) => value !== null)
      .map(([label, value], place) => ({ label: `${label} ${format.r(value)}`, value, main: place === 0 }));
    const drawn = figure.draws.map((draw) => draw.values.filter((value) => value !== null));
    const [low, high] = findEnds([...drawn.flat(), ...marks.map((mark) => mark.value)]);
    const pixels = width - LEFT - RIGHT;
    const range = makeRange(low, high, marks, pixels);
    const several = drawn.length > 1;
    const plain = colors.dark ? "#8793a0" : "#8d99a6";
    const binned = bin(drawn, figure.bins, (range[1] - range[0]) / pixels);
    const data = binned.map(({ centres, counts, size }, place) => ({
      type: "bar",
      name: plots.text(figure.draws[place].label),
      x: centres,
      y: counts,
      width: size,
      marker: { color: plots.fade(several ? colors.series[place % 8] : plain, several ? 0.6 : 0.9) },
      hovertemplate: `%{y:,} of ${format.count(drawn[place].length)} near %{x:.3g}<extra></extra>`,
    }));
    const placed = stack(marks, range, pixels);
    const rows = Math.max(0, ...placed.map(({ row }) => row + 1));
    const legend = several ? 18 * plots.countLines(figure.draws.map(({ label }) => label), width) : 0;
    const strong = { color: several ? colors.text : colors.series[1], width: 2.5 };
    const y = several ? "count" : (figure.draws[0]?.label ?? "");
    return {
      data,
      layout: plots.layout({
        height: TALL + 68 + TAG * rows + legend,
        margin: { l: LEFT, r: RIGHT, t: 12 + TAG * rows + legend, b: 56 },
        barmode: "overlay",
        bargap: 0,
        showlegend: several,
        legend: { orientation: "h", x: 0, y: 1, yref: "container", yanchor: "top", xanchor: "left" },
        xaxis: plots.axis(figure.x_label, { range }),
        yaxis: plots.axis("", { rangemode: "tozero", title: plots.title(plots.wrap(y, TALL, 2)) }),
        shapes: placed.map(({ value, row, main }) => ({
          type: "line",
          xref: "x",
          yref: "paper",
          x0: value,
          x1: value,
          y0: 0,
          y1: 1 + ((row + 0.9) * TAG) / TALL,
          line: main ? strong : { color: colors.muted, width: 1.2, dash: "dot" },
        })),
        annotations: placed.map(({ label, value, row, main }) => ({
          text: main ? `<b>${plots.text(label)}</b>` : plots.text(label),
          x: value,
          xref: "x",
          xanchor: "left",
          xshift: 2,
          y: 1,
          yref: "paper",
          yanchor: "bottom",
          yshift: row * TAG,
          showarrow: false,
          font: { size: 12, color: main ? colors.text : colors.muted },
        })),
      }),
    };
  };

  const findEnds = (values) => {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return Number.isFinite(low) ? [low, high] : [0, 1];
  };

  /** Counts in bins that all draws share; none is narrower than three pixels. */
  const bin = (drawn, most, pixel) => {
    const [low, high] = findEnds(drawn.flat());
    const bins = Math.max(4, Math.min(most, Math.floor((high - low) / (3 * pixel))));
    const size = (high - low) / bins || pixel * 3;
    return drawn.map((values) => {
      const counts = new Array(bins).fill(0);
      for (const value of values) counts[Math.min(bins - 1, Math.floor((value - low) / size))] += 1;
      return { counts, size, centres: counts.map((_, place) => low + (place + 0.5) * size) };
    });
  };
})();
