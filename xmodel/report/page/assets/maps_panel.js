/* One of the two maps: all points in one picture that is drawn once, and above it those that are lit. */
(() => {
  "use strict";

  const { el } = xmodel;
  const MARGIN = 6;
  const MOST_SVG = 1500;
  const CONFIG = { displayModeBar: false, responsive: false, doubleClick: false, showTips: false };

  /** Whether the browser can draw with WebGL; tens of thousands of points are slow without. */
  const hasWebgl = () => {
    const context = document.createElement("canvas").getContext("webgl");
    context?.getExtension("WEBGL_lose_context")?.loseContext();
    return context !== null;
  };

  const findExtent = (values) =>
    values.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, -Infinity]);

  const axis = (range) => ({ range, visible: false, fixedrange: false, autorange: false });

  const layout = (size, view, more) => ({
    ...size,
    margin: { l: MARGIN, r: MARGIN, t: MARGIN, b: MARGIN },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: axis(view.x),
    yaxis: axis(view.y),
    showlegend: false,
    ...more,
  });

  /**
   * Draws a map.
   * @param {HTMLElement} element `#map-a` or `#map-b`
   * @param {Object} settings
   * @param {"a"|"b"} settings.side
   * @param {{feature: number[], x: number[], y: number[]}} settings.points of the chunk "maps"
   * @param {Object} settings.marker how points look, see `xmodel.mapColors.markers`
   * @param {string} settings.drag plotly's name of what dragging does: lasso, select, pan, none
   * @param {{hover: function(?number), click: function(number), select: function(number[])}} settings.on
   *   called with rows of the points
   * @returns {Promise<Object>} what the map can do: recolor, light, mark, drag, save, zoom
   */
  xmodel.drawMap = async (element, { side, points, marker, drag, on }) => {
    const plotly = await xmodel.library("Plotly");
    const type = hasWebgl() ? "scattergl" : "scatter";
    const all = el("div", { class: "map-all" });
    const lit = el("div", { class: "map-lit" });
    const marks = el("div", { class: "map-marks" });
    element.replaceChildren(all, lit, marks);
    element.removeAttribute("aria-busy");
    element.dataset.drawnBy = type;

    const size = { width: 0, height: 0 };
    const view = { x: [0, 1], y: [0, 1] };
    let rows = [];
    let marked = null;
    let strengths = null;
    // Whether a selection that plotly tells of was drawn by hand: it tells of old ones when it draws anew.
    let pressed = false;

    const measure = () => {
      size.width = element.clientWidth;
      size.height = element.clientHeight;
    };

    const showAll = () => {
      const extents = [findExtent(points.x), findExtent(points.y)];
      const room = [size.width - 2 * MARGIN, size.height - 2 * MARGIN];
      // One scale for both directions, or rotations would change shapes.
      const scale = Math.max(...extents.map(([low, high], at) => (1.06 * (high - low) || 1) / room[at]));
      ["x", "y"].forEach((name, at) => {
        const middle = (extents[at][0] + extents[at][1]) / 2;
        view[name] = [middle - (scale * room[at]) / 2, middle + (scale * room[at]) / 2];
      });
    };

    const drawAll = () => {
      const trace = {
        type,
        mode: "markers",
        x: points.x,
        y: points.y,
        marker: { ...marker, opacity: 1, line: { width: 0 } },
        hoverinfo: "none",
        selected: { marker: { opacity: 1 } },
        unselected: { marker: { opacity: 1 } },
      };
      const more = { hovermode: "closest", hoverdistance: 14, dragmode: drag === "none" ? false : drag };
      const line = { color: xmodel.color("text"), width: 1, dash: "dot" };
      more.newselection = { line, mode: "immediate" };
      more.selections = all.layout?.selections ?? [];
      return plotly.react(all, [trace], layout(size, view, more), CONFIG);
    };

    const drawLit = () => {
      const own = xmodel.color(side);
      const strongest = Math.max(1, ...rows.map((row) => strengths?.get(row) ?? 1));
      const trace = {
        type: rows.length > MOST_SVG ? type : "scatter",
        mode: "markers",
        x: rows.map((row) => points.x[row]),
        y: rows.map((row) => points.y[row]),
        marker: {
          color: own,
          size: rows.length > 300 ? 6 : 9,
          opacity: strengths ? rows.map((row) => 0.3 + (0.7 * strengths.get(row)) / strongest) : 1,
          line: { color: xmodel.color("page"), width: 1 },
        },
        hoverinfo: "skip",
      };
      return plotly.react(lit, [trace], layout(size, view, { hovermode: false, dragmode: false }), {
        ...CONFIG,
        staticPlot: true,
      });
    };

    const drawMark = () => {
      marks.replaceChildren();
      if (!marked) return;
      const place = (values, [low, high], room) =>
        MARGIN + ((values - low) / (high - low)) * (room - 2 * MARGIN);
      const x = place(points.x[marked.row], view.x, size.width);
      const y = size.height - place(points.y[marked.row], view.y, size.height);
      if (x < 0 || y < 0 || x > size.width || y > size.height) return;
      const css = { left: `${x}px`, top: `${y}px` };
      const across = x > size.width / 2 ? "map-left" : "map-right";
      const along = y > size.height / 2 ? "map-above" : "map-below";
      marks.append(el("span", { class: "map-ring", css }));
      if (marked.label) marks.append(el("div", { class: `map-tag ${across} ${along}`, css }, marked.label));
    };

    const follow = (changed) => {
      for (const name of ["x", "y"]) {
        const range = changed[`${name}axis.range`];
        const ends = range ?? [changed[`${name}axis.range[0]`], changed[`${name}axis.range[1]`]];
        if (ends.every(Number.isFinite)) view[name] = [...ends];
      }
      drawMark();
      if (rows.length) plotly.relayout(lit, { "xaxis.range": [...view.x], "yaxis.range": [...view.y] });
    };

    const look = () => {
      const ranges = { "xaxis.range": [...view.x], "yaxis.range": [...view.y] };
      return plotly.relayout(all, ranges);
    };

    measure();
    showAll();
    await drawAll();
    const pick = (event) => event?.points?.map((point) => point.pointIndex) ?? [];
    all.on("plotly_hover", (event) => {
      // Drawn anew, plotly tells once more of the point that was last pointed at.
      if (all.matches(":hover")) on.hover(pick(event)[0]);
    });
    all.on("plotly_unhover", () => on.hover(null));
    all.on("plotly_click", (event) => on.click(pick(event)[0]));
    all.on("plotly_selected", (event) => {
      if (event && pressed) on.select(pick(event));
      pressed = false;
    });
    all.addEventListener("pointerdown", () => (pressed = true), { capture: true });
    all.on("plotly_relayouting", follow);
    all.on("plotly_relayout", follow);

    const redraw = async () => {
      pressed = false;
      await drawAll();
      if (rows.length) await drawLit();
      drawMark();
    };

    new ResizeObserver(() => {
      if (!element.clientWidth || element.clientWidth === size.width) return;
      measure();
      showAll();
      redraw();
    }).observe(element);

    return {
      /** Gives all points another look. */
      recolor: (other) => {
        marker = other;
        return redraw();
      },
      /** Lights some points, the stronger the more, and dims the others; none: all are as they were. */
      light: (chosen, strength = null) => {
        rows = chosen;
        strengths = strength;
        all.classList.toggle("dimmed", rows.length > 0);
        lit.hidden = rows.length === 0;
        if (rows.length) drawLit();
      },
      /** Puts a ring around a point, with a label beside it; null takes it away. */
      mark: (row, label) => {
        marked = row === null ? null : { row, label };
        drawMark();
      },
      /** Sets what dragging does, and takes outlines away. */
      drag: (name) => {
        drag = name;
        pressed = false;
        return plotly.relayout(all, { dragmode: name === "none" ? false : name, selections: [] });
      },
      /** Takes the outline of a selection away. */
      forget: () => {
        pressed = false;
        if (all.layout.selections?.length) plotly.relayout(all, { selections: [] });
      },
      /** Saves the map as it is shown, as SVG. */
      save: (name) => {
        const dimmed = rows.length > 0;
        const layers = dimmed ? [all, lit] : [all];
        return xmodel.plots.save(plotly, layers, { ...size, name, opacity: dimmed ? [0.3, 1] : [1] });
      },
      /** Enlarges ("in"), shrinks ("out"), or shows all ("all"). */
      zoom: (how) => {
        if (how === "all") showAll();
        else {
          const factor = how === "in" ? 1 / 1.6 : 1.6;
          for (const name of ["x", "y"]) {
            const [low, high] = view[name];
            const [middle, half] = [(low + high) / 2, ((high - low) / 2) * factor];
            view[name] = [middle - half, middle + half];
          }
        }
        return look();
      },
    };
  };
})();
