/* The part "maps": both models' decoder vectors side by side, what is chosen on one is lit on the other. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const SIDES = ["a", "b"];
  const OTHER = { a: "b", b: "a" };
  const MOST_TOLD = 50;
  const PAUSE = 150;

  const find = (id) => document.getElementById(id);
  const count = (number, word) => `${format.count(number)} ${word}${number === 1 ? "" : "s"}`;
  let here = null;

  const tell = (side, rows) => {
    const own = here.maps[side];
    find(`map-${side}`).dataset.lit = rows
      .slice(0, MOST_TOLD)
      .map((row) => own.feature[row])
      .join(",");
  };

  /** The rows of the best partners of some rows, each once. */
  const findPartners = (side, rows) => {
    const { partner } = here.maps[side];
    const found = rows.map((row) => here.rows[OTHER[side]].get(partner[row]));
    return [...new Set(found.filter((row) => row !== undefined))];
  };

  /** Why a feature has no partner. */
  const tellUnpaired = (side, row) => {
    const { floor, filtered } = here.maps;
    const fires = here.maps[side].discovery[row];
    const least = xmodel.run.least_firings;
    if (fires < least) {
      return `not judged: fires on ${count(fires, "word")} of the discovery half (${least} needed)`;
    }
    const aside = filtered ? ", or a filter set it aside" : "";
    return `no feature of ${OTHER[side]} correlates with it above ${floor}${aside}`;
  };

  /** Rows with the strongest r first, then those without a partner. */
  const sortByR = (side, rows) => {
    const strength = (row) => Math.abs(here.maps[side].r[row] ?? -1);
    const known = (row) => here.maps[side].r[row] !== null;
    return [...rows].sort((one, two) => known(two) - known(one) || strength(two) - strength(one));
  };

  /** Rings a point, and says what it is. */
  const mark = (side, row, tie = "") => {
    const feature = here.maps[side].feature[row];
    const label = row === undefined ? null : xmodel.mapList.drawLabel(here, side, feature, tie);
    here.panels[side].mark(row ?? null, label);
  };

  /** Rings a feature and its best partner. */
  const markPair = (pair) => {
    if (!pair) {
      for (const side of SIDES) mark(side, undefined);
      return;
    }
    const { side, row } = pair;
    const { r, partner } = here.maps[side];
    mark(side, row, partner[row] === null ? tellUnpaired(side, row) : `r ${format.r(r[row])}`);
    mark(
      OTHER[side],
      findPartners(side, [row])[0],
      `best partner of ${side} ${here.maps[side].feature[row]}`,
    );
  };

  /** Lights features on both maps, tells how many, and lists them. */
  const light = (lit, { status, pair = null, concept = null, strengths = null }) => {
    Object.assign(here, { lit, pair, concept, status });
    for (const side of SIDES) {
      here.panels[side].light(lit[side], strengths?.[side]);
      tell(side, lit[side]);
    }
    markPair(pair);
    const lists = xmodel.mapList.drawLists(here, lit, strengths);
    find("map-list").replaceChildren(...lists);
    find("map-status").replaceChildren(status);
    find("map-clear").disabled = !lists.length && !find("map-word").value;
    for (const button of find("map-legend").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.textContent === concept));
    }
  };

  const clear = () => light({ a: [], b: [] }, { status: hint() });

  const hint = () =>
    el("p", {
      class: "hint",
      text: "Point at a feature to see its best partner on the other map; click to keep it, drag over many.",
    });

  const drawStatus = (side, row) => {
    const own = here.maps[side];
    const partner = own.partner[row];
    const other = `${OTHER[side]} ${partner}`;
    const off = findPartners(side, [row]).length ? "" : " (not on the map)";
    const found = `best partner ${other}${off}, r ${format.r(own.r[row])}`;
    const tie = partner === null ? tellUnpaired(side, row) : found;
    return el("p", {}, `${side} ${own.feature[row]}: ${tie}. `);
  };

  const hover = (side, row) => {
    if (row === null || row === undefined) {
      markPair(here.pair);
      for (const each of SIDES) tell(each, here.lit[each]);
      find("map-status").replaceChildren(here.status);
      return;
    }
    markPair({ side, row });
    tell(side, [row]);
    tell(OTHER[side], findPartners(side, [row]));
    find("map-status").replaceChildren(drawStatus(side, row));
  };

  const choose = (side, feature) => {
    const row = here.rows[side].get(feature);
    if (row === undefined) {
      const text = `${side} ${feature} is not on the map: it never fires in this run, or it does not exist.`;
      light({ a: [], b: [] }, { status: el("p", { class: "notice", text }) });
      return;
    }
    const status = drawStatus(side, row);
    const text = here.maps[side].partner[row] === null ? "Open the feature" : "Open the pair";
    status.append(el("a", { href: `#${side}=${feature}`, text }));
    light({ [side]: [row], [OTHER[side]]: findPartners(side, [row]) }, { pair: { side, row }, status });
  };

  const select = (side, chosen) => {
    if (!chosen.length) {
      here.panels[side].forget();
      xmodel.go({ part: "maps" }, { replace: true });
      clear();
      return;
    }
    const rows = sortByR(side, chosen);
    const partners = sortByR(OTHER[side], findPartners(side, rows));
    const found = count(partners.length, "best partner");
    const text = `${count(rows.length, "feature")} of ${side} selected: ${found} on ${OTHER[side]}.`;
    find("map-word").value = "";
    xmodel.go({ part: "maps" }, { replace: true, quiet: true });
    here.panels[OTHER[side]].forget();
    light({ [side]: rows, [OTHER[side]]: partners }, { status: el("p", { text }) });
  };

  const chooseConcept = (name) => {
    const number = here.maps.concepts.indexOf(name);
    if (number < 0) {
      light(
        { a: [], b: [] },
        { status: el("p", { class: "notice", text: `No feature belongs to a concept “${name}”.` }) },
      );
      return;
    }
    const of = (side) => here.maps[side].concept.flatMap((one, row) => (one === number ? [row] : []));
    const lit = { a: of("a"), b: of("b") };
    const found = `${count(lit.a.length, "feature")} of a, ${format.count(lit.b.length)} of b`;
    const text = `${name}: ${found}.`;
    light(lit, { status: el("p", { text }), concept: name });
  };

  const offerWords = ({ word, offers }) => {
    const buttons = offers.flatMap((one) => [
      " ",
      el(
        "button",
        { type: "button", class: "map-offer", on: { click: () => goWord(one) } },
        xmodel.word(one),
      ),
    ]);
    const start = el("p", {}, "“", xmodel.word(word), "” does not occur as a word of this run. ");
    if (offers.length) start.append("Near it:", ...buttons);
    return start;
  };

  const searchWord = async (text) => {
    const asked = (here.asked = text);
    const found = await xmodel.findWord(text);
    // Another word was typed meanwhile.
    if (here.asked !== asked) return;
    if (found.offers) {
      light({ a: [], b: [] }, { status: offerWords(found) });
      return;
    }
    const of = (side) =>
      found[side].map((one) => here.rows[side].get(one)).filter((row) => row !== undefined);
    const lit = { a: of("a"), b: of("b") };
    const weigh = (side) =>
      new Map(found[side].map((one, at) => [here.rows[side].get(one), found.strengths[side][at]]));
    const total = (side) => format.count(lit[side].length + (found.more[side] ?? 0));
    const cut = SIDES.some((side) => found.more[side]);
    const status = el(
      "p",
      {},
      xmodel.word(found.word),
      `: ${total("a")} features of a, ${total("b")} of b fire on some of its `,
      count(found.count, "occurrence"),
      cut ? `; the ${format.count(Math.max(lit.a.length, lit.b.length))} strongest are lit.` : ".",
      " The stronger it fires there, the fuller its colour; strongest first in the list.",
    );
    light(lit, { status, strengths: { a: weigh("a"), b: weigh("b") } });
  };

  const goWord = (word) =>
    xmodel.go({ part: "maps", word }, { replace: xmodel.route.params.word !== undefined });

  const recolor = () => {
    const by = find("map-color").value;
    drawLegend();
    return Promise.all(
      SIDES.map((side) => here.panels[side].recolor(xmodel.mapColors.markers(here.maps, side, by))),
    );
  };

  const drawLegend = () => {
    const onConcept = (name) =>
      xmodel.go(here.concept === name ? { part: "maps" } : { part: "maps", concept: name });
    const by = find("map-color").value;
    find("map-legend").replaceChildren(xmodel.mapColors.legend(here.maps, by, here.concept, onConcept));
  };

  const listen = (section) => {
    let waiting = null;
    const search = () => {
      clearTimeout(waiting);
      const word = find("map-word").value.trim();
      if (word) goWord(word);
      else xmodel.go({ part: "maps" }, { replace: true });
    };
    find("map-word").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(search, PAUSE);
    });
    find("map-controls").addEventListener("submit", (event) => {
      event.preventDefault();
      search();
    });
    find("map-color").addEventListener("change", recolor);
    find("map-drag").addEventListener("change", (event) => {
      for (const side of SIDES) here.panels[side].drag(event.target.value);
    });
    find("map-clear").addEventListener("click", () => {
      clearTimeout(waiting);
      xmodel.go({ part: "maps" });
      find("map-word").focus();
    });
    section.addEventListener("click", (event) => {
      const { save } = event.target.closest("[data-save]")?.dataset ?? {};
      if (save) here.panels[save].save(`map-${save}`);
      const button = event.target.closest("[data-zoom]");
      if (button) here.panels[button.closest("[data-side]").dataset.side].zoom(button.dataset.zoom);
    });
    xmodel.onTheme(recolor);
  };

  const drawPanel = (maps, side) => {
    const { model, dictionary } = xmodel.run.sides[side];
    const own = maps[side];
    const element = find(`map-${side}`);
    const figure = element.closest("figure");
    figure.querySelector(".map-name").textContent = `${model} · ${dictionary}`;
    const features = `${format.count(own.feature.length)} features of ${side}, ${model}`;
    element.setAttribute("aria-label", `Map of ${features}. What is lit is listed below.`);
    return xmodel.drawMap(element, {
      side,
      points: own,
      marker: xmodel.mapColors.markers(maps, side, find("map-color").value),
      drag: find("map-drag").value,
      on: {
        hover: (row) => hover(side, row),
        click: (row) => xmodel.go({ part: "maps", [side]: own.feature[row] }),
        select: (rows) => select(side, rows),
      },
    });
  };

  const start = async (section) => {
    // On a screen that is touched, dragging is how one gets past the map.
    if (matchMedia("(pointer: coarse)").matches) find("map-drag").value = "none";
    const maps = await xmodel.load("maps");
    if (!maps.concepts.length) find("map-color").value = "r";
    const rows = {};
    for (const side of SIDES) rows[side] = new Map(maps[side].feature.map((one, row) => [one, row]));
    here = {
      maps,
      rows,
      words: {},
      panels: {},
      lit: { a: [], b: [] },
      pair: null,
      concept: null,
      ready: false,
    };
    drawLegend();
    const panels = await Promise.all(SIDES.map((side) => drawPanel(maps, side)));
    SIDES.forEach((side, at) => (here.panels[side] = panels[at]));
    listen(section);
    const words = await Promise.all(SIDES.map((side) => xmodel.load(`features/words_${side}`)));
    SIDES.forEach((side, at) => (here.words[side] = words[at]));
    here.ready = true;
  };

  const show = async ({ word, a, b, concept }) => {
    // Who comes by again while the maps are still being drawn is served when they are.
    if (!here?.ready) return;
    const field = find("map-word");
    if (field !== document.activeElement || !word) field.value = word ?? "";
    here.asked = null;
    for (const side of SIDES) here.panels[side].forget();
    if (word) await searchWord(word);
    else if (a !== undefined) choose("a", Number(a));
    else if (b !== undefined) choose("b", Number(b));
    else if (concept) chooseConcept(concept);
    else clear();
  };

  xmodel.part("maps", {
    start: async (section) => {
      if (!find("map-a")) return; // the part is missing in this run
      try {
        await start(section);
      } catch (error) {
        here = null;
        for (const side of SIDES) xmodel.showFailure(find(`map-${side}`), error);
      }
    },
    show,
  });
})();
