/* The features that are lit, as lists: what the maps show, for those who read. Adds `xmodel.mapList`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const MOST = 100;
  const OTHER = { a: "b", b: "a" };

  /**
   * The top words of a feature.
   * @param {Object|null} words the chunk features/words_a or features/words_b
   * @param {number} feature
   * @param {number} [most]
   * @returns {HTMLElement}
   */
  const drawWords = (words, feature, most = 8) => {
    const own = (words?.top[feature] ?? []).slice(0, most).map((id) => words.words[id]);
    return el(
      "span",
      { class: "map-words" },
      own.flatMap((text, place) => [place ? ", " : null, xmodel.word(text)]),
    );
  };

  /**
   * A line on a feature: its name and top words, and what ties it to its partner.
   * @param {Object} context words: the chunks features/words_a and _b by side, where they are there
   * @param {"a"|"b"} side
   * @param {number} feature
   * @param {string} tie for instance "r 0.55"
   * @returns {HTMLElement}
   */
  const drawLabel = ({ words }, side, feature, tie) =>
    el(
      "span",
      {},
      el("strong", { text: `${side} ${feature} ` }),
      drawWords(words[side], feature, 5),
      " ",
      el("span", { class: "map-tie", text: tie && `· ${tie}` }),
    );

  const tellStrength = (hundredths) => (hundredths < 1 ? "< 0.01" : (hundredths / 100).toFixed(2));

  const drawSide = (context, side, rows, strengths) => {
    const { maps, words } = context;
    const own = maps[side];
    const other = OTHER[side];
    const line = (row) => {
      const feature = own.feature[row];
      const partner = own.partner[row];
      const pair =
        partner === null ? "–" : el("a", { href: `#${side}=${feature}`, text: `${other} ${partner}` });
      return el(
        "tr",
        {},
        el("th", { scope: "row" }, el("a", { href: `#maps&${side}=${feature}`, text: `${side} ${feature}` })),
        el("td", {}, drawWords(words[side], feature)),
        el("td", {}, pair),
        el("td", { class: "number", text: format.r(own.r[row]) }),
        strengths ? el("td", { class: "number", text: tellStrength(strengths.get(row)) }) : null,
      );
    };
    const names = ["feature", "top words", "best partner", "r"];
    if (strengths) names.push("mean on the word / its maximum");
    const heads = names.map((text, at) => el("th", { scope: "col", class: at >= 3 ? "number" : null, text }));
    const rest = rows.length - MOST;
    return el(
      "div",
      { class: "map-side-list" },
      el("h3", { text: `${format.count(rows.length)} of ${side}` }),
      rows.length
        ? el(
            "div",
            { class: "scroll", tabindex: "0", role: "region", "aria-label": `Lit features of ${side}` },
            el(
              "table",
              {},
              el("thead", {}, el("tr", {}, heads)),
              el("tbody", {}, rows.slice(0, MOST).map(line)),
            ),
          )
        : null,
      rest > 0
        ? el("p", { class: "hint", text: `${format.count(rest)} more are lit and not listed.` })
        : null,
    );
  };

  /**
   * The lit features of both sides.
   * @param {Object} context maps (the chunk), words (see `drawLabel`)
   * @param {{a: number[], b: number[]}} lit rows
   * @param {?{a: Map, b: Map}} strengths by row, in hundredths of the feature's maximum, if there is a word
   * @returns {HTMLElement[]} nothing if none is lit
   */
  const drawLists = (context, lit, strengths) =>
    lit.a.length + lit.b.length
      ? ["a", "b"].map((side) => drawSide(context, side, lit[side], strengths?.[side]))
      : [];

  xmodel.mapList = { drawLabel, drawLists };
})();
