/* What a feature is called: words of its own, a name that was given, one carried over. Adds to `xmodel`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const OTHER = { a: "b", b: "a" };
  const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
  const SURELY_SEEN = 2; // words that even a narrow cell has room for

  /** A feature's number in the colour of its side. */
  xmodel.idOf = (side, number) => el("span", { class: `id ${side}`, text: `${side} ${number}` });

  /** Words in a row, each of its own direction. */
  xmodel.wordList = (words) => words.flatMap((word, at) => [at ? ", " : "", xmodel.word(word)]);

  /** What tells how far to trust a name that was carried over, as one text. */
  const tellTrust = ({ r, r_heldout: heldout, mutual, credible }, number) =>
    [
      `r ${format.r(r[number])}`,
      heldout[number] === null ? null : `held out ${format.r(heldout[number])}`,
      mutual[number] ? null : "not mutual",
      credible[number] === false ? "no more than chance" : null,
    ]
      .filter(Boolean)
      .join(", ");

  /**
   * The name that a feature has from its best partner; it says where it is from, and how far to trust it.
   * @param {Object} features the chunk features/words_SIDE
   * @param {"a"|"b"} side
   * @param {number} number
   * @returns {HTMLElement|null} null if it has none
   */
  xmodel.drawCarried = (features, side, number) => {
    const label = features.carried?.label[number];
    if (!label) return null;
    const { from } = features.carried;
    const trust = tellTrust(features.carried, number);
    const other = OTHER[side];
    return el(
      "span",
      { class: "carried", title: `Carried over from ${other} ${from[number]}: “${label}”, ${trust}` },
      "← ",
      xmodel.idOf(other, from[number]),
      " “",
      xmodel.word(label),
      `”, ${trust}`,
    );
  };

  /** A feature's top words; those that the search names are marked, and never where they would be cut. */
  const drawWords = (pairs, side, number) => {
    const top = pairs.top(side, number);
    const hits = pairs.hits(side, number);
    const order = top.map((_, at) => at);
    const first = hits.indexOf(true);
    if (first >= SURELY_SEEN) order.unshift(...order.splice(first, 1));
    // Only right-to-left words and those that are marked need elements of their own.
    if (first < 0 && !top.some((word) => RIGHT_TO_LEFT.test(word))) return [top.join(", ")];
    return order.flatMap((at, place) => {
      const word = xmodel.word(top[at]);
      return [place ? ", " : "", hits[at] ? el("mark", {}, word) : word];
    });
  };

  /**
   * A feature on one line: its number, the name that was given, its top words, the name carried over.
   * @param {Object} pairs see `xmodel.readPairs`
   * @param {"a"|"b"} side
   * @param {number} number
   */
  xmodel.drawFeatureLine = (pairs, side, number) => {
    const features = pairs.words[side];
    const label = features.labels?.[number];
    const words = { class: "words", title: pairs.top(side, number).join(", ") };
    return el(
      "span",
      { class: "feature" },
      xmodel.idOf(side, number),
      label && xmodel.word(label, { class: "label", title: label }),
      el("span", words, drawWords(pairs, side, number)),
      xmodel.drawCarried(features, side, number),
    );
  };
})();
