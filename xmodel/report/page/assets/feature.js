/* Two features side by side, or one alone. Adds `xmodel.drawDetail`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const OTHER = { a: "b", b: "a" };
  let latest = 0;

  const drawCard = (side, number, feature, pairs, shared) => {
    const features = pairs.words[side];
    const settings = { class: "card", data: { side } };
    const heading = el("h4", { text: `${side} ${number}` });
    if (!feature) {
      return el("div", settings, heading, el("p", { class: "facts", text: "fires on no word of this run." }));
    }
    const about = xmodel.run.sides[side];
    const [discovery, heldout] = feature.firings;
    const label = features.labels?.[number];
    const carried = xmodel.drawCarried(features, side, number);
    const concept = features.concept[number];
    const url = about.neuronpedia?.replace("{feature}", number);
    const halves = `${format.count(discovery)} discovery, ${format.count(heldout)} held out`;
    const strength = `mean ${format.value(feature.mean)}, maximum ${format.value(feature.maximum)}`;
    const counts = `${format.count(discovery + heldout)} firings (${halves}), ${strength}`;
    const away = { target: "_blank", rel: "noopener", text: "Neuronpedia" };
    const isShared = (word) => shared.has(word.toLowerCase());
    return el(
      "div",
      settings,
      heading,
      label && el("p", {}, xmodel.word(label, { class: "label" })),
      el(
        "p",
        { class: "top-words" },
        feature.top.map((word) => [xmodel.word(word, { class: isShared(word) ? "shared" : null }), " "]),
      ),
      carried && el("p", {}, carried),
      el("p", { class: "facts" }, counts, concept && [". Concept: ", xmodel.word(concept)]),
      url && el("p", { class: "facts" }, el("a", { href: url, ...away })),
    );
  };

  const tellMargin = (margin) => {
    if (margin === null) return "";
    if (margin < 0) return ` Another partner of a is ${format.r(-margin)} higher.`;
    return ` The next best partner of a is ${format.r(margin)} lower.`;
  };

  const tellPair = (row, pairs) => {
    const at = (name) => pairs.table[name][row];
    const tellFirings = (half) =>
      `a fires on ${format.count(at(`n_a${half}`))} words, b on ${format.count(at(`n_b${half}`))}, ` +
      `both on ${format.count(at(`n_ab${half}`))}`;
    const heldout = at("r_heldout") === null ? "not measured" : format.r(at("r_heldout"));
    const margin = tellMargin(at("margin"));
    const chosen = xmodel.run.rules.filter((_, bit) => (at("rules") >> bit) & 1);
    const rules = chosen.map((rule) => xmodel.ruleNames[rule] ?? rule);
    const alone = "They never fire together on held-out words: r rests on the discovery half alone.";
    return [
      el(
        "p",
        { class: "finding" },
        el("strong", { text: `r ${format.r(at("r"))}` }),
        `, held out ${heldout}.${margin} On the discovery half ${tellFirings("")} ` +
          `(Jaccard ${format.value(at("jaccard"))}). On held-out words ${tellFirings("_heldout")}. ` +
          `Chosen as: ${rules.join("; ")}.`,
      ),
      at("n_ab_heldout") === 0 ? el("p", { class: "notice", text: alone }) : null,
    ];
  };

  const drawPartners = (side, number, feature, other, pairs) => {
    const shown = feature.partners.filter((partner) => partner.f !== other);
    const name = `${side} ${number}`;
    if (!shown.length) return el("p", { class: "hint", text: `${name} has no other partner.` });
    const body = shown.map((partner) => {
      const href = xmodel.partnerLink(pairs, side, number, partner.f);
      return el(
        "tr",
        {},
        el("td", {}, el("a", { href, class: "id", text: `${OTHER[side]} ${partner.f}` })),
        el("td", { class: "number", text: format.r(partner.r) }),
        el("td", { class: "number", text: format.r(partner.r_heldout) }),
        el("td", { class: "number", text: format.count(partner.n_ab) }),
        el("td", {}, xmodel.wordList(pairs.top(OTHER[side], partner.f).slice(0, 6))),
      );
    });
    const titles = ["feature", "r", "held out", "both", "top words"];
    const heads = titles.map((text, at) =>
      el("th", { scope: "col", class: at > 0 && at < 4 ? "number" : null, text }),
    );
    return el(
      "div",
      { class: "scroll partners", tabindex: "0", role: "region", "aria-label": `Other partners of ${name}` },
      el(
        "table",
        {},
        el("caption", { text: other === null ? `Partners of ${name}` : `Other partners of ${name}` }),
        el("thead", {}, el("tr", {}, heads)),
        el("tbody", {}, body),
      ),
    );
  };

  const drawContexts = async (features, crossed) => {
    const own = Object.fromEntries(Object.entries(features).filter(([, feature]) => feature));
    const all = "Shade: the activation as a share of the feature's strongest in this run. Framed: the peak.";
    const text = `${all} Point at a word, or use Tab and ← →, for its values.`;
    const blocks = [el("p", { class: "hint legend", text })];
    const seen = new Set();
    for (const [side, feature] of Object.entries(own)) {
      const both = crossed !== null;
      const fresh = feature.contexts
        .map((context, at) => ({
          ...context,
          on: both
            ? { [side]: context.own, [OTHER[side]]: crossed[`${OTHER[side]}_on_${side}`][at] }
            : { [side]: context.own },
        }))
        .filter((context) => !both || !seen.has(context.word));
      for (const context of fresh) seen.add(context.word);
      const again = both && side === "b" ? ", not shown above" : "";
      blocks.push(el("h4", { text: `Where ${side} ${feature.f} fires most${again}` }));
      if (!fresh.length) blocks.push(el("p", { class: "hint", text: "All of these are shown above." }));
      else blocks.push(await xmodel.drawWindows(fresh, both ? own : { [side]: feature }));
    }
    return blocks;
  };

  const explain = (a, b, features, row, pairs) => {
    if (a !== null && b !== null) {
      if (row >= 0) return tellPair(row, pairs);
      const text = `No rule chose a ${a} and b ${b} as a pair, so what they have in common was not kept.`;
      return el("p", { class: "notice", text: `${text} Each is shown by itself.` });
    }
    const side = a === null ? "b" : "a";
    const feature = features[side];
    const reason = feature?.unpaired ?? (feature ? "None of its partners was chosen by a rule." : null);
    return reason && el("p", { class: "notice", text: `${side} ${feature.f} has no pair. ${reason}` });
  };

  const check = (side, number, pairs) => {
    if (number === null) return null;
    const count = pairs.count(side);
    if (Number.isInteger(number) && number >= 0 && number < count) return null;
    const said = Number.isInteger(number) ? ` ${number}` : " by that number";
    return `There is no feature ${side}${said}: this dictionary's go from 0 to ${format.count(count - 1)}.`;
  };

  const readAll = async (a, b, row) => {
    const size = xmodel.run.chunk.pairs;
    const [first, second, chunk] = await Promise.all([
      a === null ? null : xmodel.readFeature("a", a),
      b === null ? null : xmodel.readFeature("b", b),
      row < 0 ? null : xmodel.load(xmodel.chunkName("pairs/", row, size)),
    ]);
    return { features: { a: first, b: second }, pair: chunk && chunk[row % size] };
  };

  const draw = async ({ a, b }, pairs) => {
    const wrong = check("a", a, pairs) ?? check("b", b, pairs);
    if (wrong) return [el("p", { class: "notice", role: "alert", text: wrong })];
    const row = a === null || b === null ? -1 : pairs.find(a, b);
    const { features, pair } = await readAll(a, b, row);
    const numbers = { a, b };
    const sides = ["a", "b"].filter((side) => numbers[side] !== null);
    const tops = sides.map((side) => (features[side]?.top ?? []).map((word) => word.toLowerCase()));
    const shared = new Set(tops.length === 2 ? tops[0].filter((word) => tops[1].includes(word)) : []);
    const names = sides.map((side) => xmodel.idOf(side, numbers[side]));
    const cards = sides.map((side) => drawCard(side, numbers[side], features[side], pairs, shared));
    return [
      el(
        "header",
        {},
        el("h3", { tabindex: "-1" }, names[0], names[1] && [" and ", names[1]]),
        explain(a, b, features, row, pairs),
        el("div", { class: "cards" }, cards),
      ),
      await drawContexts(features, pair),
      el(
        "div",
        { class: "below" },
        pair && xmodel.drawActivations(pair.scatter, a, b),
        el(
          "div",
          { class: "others" },
          el("h4", { text: pair ? "Other partners" : "Partners" }),
          sides
            .filter((side) => features[side])
            .map((side) => [side, numbers[side], features[side], numbers[OTHER[side]], pairs])
            .map((given) => drawPartners(...given)),
        ),
      ),
    ].flat();
  };

  /**
   * Draws a pair, or one feature; a later call takes the place of one that is still reading.
   * @param {HTMLElement} container
   * @param {{a: number|null, b: number|null}} numbers
   * @param {Object} pairs see `xmodel.readPairs`
   */
  xmodel.drawDetail = async (container, numbers, pairs) => {
    const call = (latest += 1);
    container.setAttribute("aria-busy", "true");
    try {
      const content = await draw(numbers, pairs);
      if (call !== latest) return;
      const inside = container.contains(document.activeElement) && document.activeElement !== container;
      container.replaceChildren(...content);
      // What had the focus is gone: who came by key goes on here, and not at the top of the page.
      if (inside) container.querySelector("h3")?.focus({ preventScroll: true });
      container.removeAttribute("aria-busy");
      xmodel.startActivations(container);
    } catch (error) {
      if (call === latest) xmodel.showFailure(container, error);
    }
  };
})();
