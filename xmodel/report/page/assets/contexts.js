/* The same text twice, shaded by what either model's feature does on every word. Adds to `xmodel`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
  const told = new WeakMap();

  /**
   * Reads the text of a stretch of words.
   * @param {number} start first word
   * @param {number} stop one past the last
   * @returns {Promise<{words: (string|null)[], gaps: string[], document: string, split: string}>} gaps[i]
   *   stands before words[i]; the document is that of the first word
   */
  xmodel.readText = async (start, stop) => {
    const size = xmodel.run.chunk.text;
    const words = [];
    const gaps = [];
    let place = null;
    for (let at = start; at < stop; ) {
      const first = Math.floor(at / size) * size;
      const chunk = await xmodel.load(xmodel.chunkName("text/", at, size));
      place ??= chunk.documents.findLast(([word]) => word <= start) ?? null;
      for (; at < Math.min(stop, first + size); at += 1) {
        words.push(chunk.words[at - first]);
        gaps.push(chunk.gaps[at - first] ?? " ");
      }
    }
    return { words, gaps, document: place?.[2] ?? "", split: place?.[3] ?? "" };
  };

  const share = (value, feature) => Math.min(1, Math.abs(value) / (Math.abs(feature.maximum) || 1));

  const describe = (side, value, feature) => {
    const part = value ? ` (${format.share(share(value, feature))} of its maximum)` : "";
    return `${side} ${feature.f}: ${value === undefined ? "0" : format.value(value)}${part}`;
  };

  /** What stands between two words, the ends of paragraphs faint. */
  const drawGap = (gap) => (gap.includes("↵") ? el("bdi", { class: "gap", text: gap }) : gap);

  const drawWords = (side, view) => {
    const { text, window, features, values } = view;
    const shown = text.words.map((word) => word ?? "");
    const right = shown.filter((word) => RIGHT_TO_LEFT.test(word)).length * 2 > shown.length;
    const line = el("p", { class: "words", dir: right ? "rtl" : null });
    shown.forEach((word, offset) => {
      const value = values[side].get(offset);
      const peak = window.start + offset === window.word;
      if (offset > 0) line.append(drawGap(text.gaps[offset]));
      const signs = ["word", peak && "peak", value && "on", value < 0 && "negative"].filter(Boolean);
      const element = xmodel.word(word, {
        class: signs.join(" "),
        tabindex: peak ? "0" : "-1",
        css: value ? { "--level": (0.12 + 0.88 * share(value, features[side])).toFixed(3) } : {},
      });
      const sides = Object.keys(features).map((one) => describe(one, values[one].get(offset), features[one]));
      told.set(element, { word, sides, offset });
      line.append(element);
    });
    return line;
  };

  const drawPeak = (side, view) => {
    const { window, features, values } = view;
    const value = values[side].get(window.word - window.start);
    const width = value ? Math.max(2, 100 * share(value, features[side])) : 0;
    return el(
      "p",
      { class: "peak-value" },
      el("span", { class: "name", text: `${side} ${features[side].f}` }),
      el("span", { class: "bar" }, el("span", { css: { width: `${width.toFixed(1)}%` } })),
      el("span", { class: "number", text: value === undefined ? "0" : format.value(value) }),
    );
  };

  /**
   * Draws windows of text, each once per side.
   * @param {{word: number, start: number, stop: number, on: Object<string, number[][]>}[]} windows the peak,
   *   the window, and per side [offset from start, activation] of the words that the side's feature fires on
   * @param {Object<string, {f: number, maximum: number}>} features per side
   * @returns {Promise<HTMLElement>} a list
   */
  xmodel.drawWindows = async (windows, features) => {
    const texts = await Promise.all(windows.map(({ start, stop }) => xmodel.readText(start, stop)));
    const rows = windows.map((window, index) => {
      const text = texts[index];
      const values = {};
      for (const side of Object.keys(features)) values[side] = new Map(window.on[side]);
      const view = { text, window, features, values };
      const half = text.split === "heldout" ? "held out" : text.split;
      return el(
        "li",
        { class: "context" },
        el("p", { class: "place", title: text.document }, xmodel.word(text.document), half && ` · ${half}`),
        Object.keys(features).map((side) =>
          el("div", { class: "side", data: { side } }, drawPeak(side, view), drawWords(side, view)),
        ),
      );
    });
    return el("ol", { class: Object.keys(features).length > 1 ? "contexts both" : "contexts" }, rows);
  };

  /**
   * The contexts of one feature alone, where it fires most.
   * @param {"a"|"b"} side
   * @param {number} number of the feature
   * @returns {Promise<HTMLElement>} a list
   */
  xmodel.contexts = async (side, number) => {
    const feature = await xmodel.readFeature(side, number);
    if (!feature) return el("p", { text: `${side} ${number} does not fire in this run.` });
    const windows = feature.contexts.map((context) => ({ ...context, on: { [side]: context.own } }));
    return xmodel.drawWindows(windows, { [side]: feature });
  };

  /**
   * Reads a feature.
   * @param {"a"|"b"} side
   * @param {number} number
   * @returns {Promise<Object|null>} its entry in the chunk features/SIDE-NNNN, null if it never fires
   */
  xmodel.readFeature = async (side, number) => {
    const size = xmodel.run.chunk.features;
    return (await xmodel.load(xmodel.chunkName(`features/${side}-`, number, size)))[number % size] ?? null;
  };

  const tooltip = document.getElementById("tooltip");
  let owner = null;

  const twins = (element) => {
    const { offset } = told.get(element);
    const words = [...element.closest(".context").querySelectorAll(".word")];
    return words.filter((word) => told.get(word).offset === offset);
  };

  const hide = () => {
    if (!owner) return;
    for (const word of twins(owner)) word.classList.remove("twin");
    owner.removeAttribute("aria-describedby");
    owner = null;
    tooltip.hidden = true;
  };

  const show = (element) => {
    if (owner === element) return;
    hide();
    owner = element;
    for (const word of twins(element)) word.classList.add("twin");
    const { word, sides } = told.get(element);
    const most = word.length > 60 ? `${word.slice(0, 60)}…` : word;
    const lines = sides.map((text) => el("span", { text }));
    tooltip.replaceChildren(xmodel.word(most, { class: "name" }), ...lines);
    tooltip.hidden = false;
    element.setAttribute("aria-describedby", "tooltip");
    move();
  };

  /** Puts the tooltip beside its word. */
  const move = () => {
    const box = owner.getBoundingClientRect();
    const room = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
    const above = box.top - tooltip.offsetHeight - 6;
    tooltip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
    tooltip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
  };

  const find = (event) => {
    const element = event.target instanceof Element ? event.target.closest(".context .word") : null;
    return element && told.has(element) ? element : null;
  };

  document.addEventListener("pointerover", (event) => {
    const element = find(event);
    if (element) show(element);
    else if (owner && owner !== document.activeElement) hide();
  });
  document.addEventListener("focusin", (event) => {
    const element = find(event);
    if (element) show(element);
    else hide();
  });
  const follow = () => {
    // What has the focus keeps its tooltip: getting there by keyboard is what scrolled the page.
    if (owner && owner === document.activeElement) move();
    else hide();
  };
  document.addEventListener("scroll", follow, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => {
    const element = find(event);
    if (event.key === "Escape") hide();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!element || !step) return;
    const words = [...element.parentElement.querySelectorAll(".word")];
    const next = words[words.indexOf(element) + (element.parentElement.dir === "rtl" ? -step : step)];
    if (!next) return;
    event.preventDefault();
    element.tabIndex = -1;
    next.tabIndex = 0;
    next.focus({ preventScroll: true });
  });
})();
