/* Which pairs fit a search: words that begin with its terms, and features by number. Adds `makeSearch`. */
(() => {
  "use strict";

  const FEATURE = /(?<![^\s,&#])([ab])\s*[#=]?\s*(\d+)(?![^\s,&])/g;
  const TERM = /["“”]([^"“”]+)["“”]|([^\s"“”]+)/g;
  const LETTER = "[\\p{L}\\p{N}\\p{M}_]";
  const BEGINS_WITH_LETTER = new RegExp(`^${LETTER}`, "u");
  // These scripts write no spaces: what begins a word is not to be seen.
  const UNSPACED =
    /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}]/u;

  /**
   * Takes a search apart.
   * @param {string} query
   * @returns {{named: {a: number[], b: number[]}, terms: {text: string, exact: boolean, number: number}[]}}
   *   named: features that were asked for with their letter; number: of a term that may be a feature, or -1
   */
  const readQuery = (query) => {
    const named = { a: [], b: [] };
    const rest = query.toLowerCase().replace(FEATURE, (_, side, digits) => {
      named[side].push(Number(digits));
      return " ";
    });
    const any = named.a.length + named.b.length > 0;
    const terms = [];
    for (const [, quoted, plain] of rest.matchAll(TERM)) {
      if (any && /^[,&#]+$/.test(plain)) continue;
      const text = (quoted ?? plain).trim().replace(/\s+/g, " ");
      if (!text) continue;
      const digits = quoted === undefined ? /^#?(\d+)$/.exec(text) : null;
      terms.push({ text, exact: quoted !== undefined, number: digits ? Number(digits[1]) : -1 });
    }
    return { named, terms };
  };

  /** A pattern for a term where a word begins; in quotes the word ends with it too. */
  const makePattern = ({ text, exact }) => {
    const literal = text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    const bound = BEGINS_WITH_LETTER.test(text) && (exact || !UNSPACED.test(text));
    return new RegExp(`${bound ? `(?<!${LETTER})` : ""}${literal}${exact ? `(?!${LETTER})` : ""}`, "u");
  };

  const describe = (features) => ({
    top: features.top,
    words: features.words.map((word) => word.toLowerCase()),
    // A line end parts what is not to be found as one text.
    said: features.top.map((_, f) =>
      [features.labels?.[f], features.carried?.label[f], features.concept[f]]
        .filter(Boolean)
        .join("\n")
        .toLowerCase(),
    ),
  });

  /** Which words of one side fit a term, and which features have one of them, or are called so: 1 or 0. */
  const findTerm = (term, { top, words, said }) => {
    const { text, exact, number } = term;
    const pattern = makePattern(term);
    // Most texts do not have the term at all, which is quicker to see than where a word begins.
    const fits = (one) => one.includes(text) && pattern.test(one);
    const hits = Uint8Array.from(words, (word) => Number(exact ? word === text : fits(word)));
    const holds = Uint8Array.from(top, (own, feature) =>
      Number(feature === number || own.some((id) => hits[id]) || fits(said[feature])),
    );
    return { hits, holds };
  };

  const join = (found, length) => {
    const all = new Uint8Array(length);
    for (const { hits } of found) hits.forEach((hit, id) => (all[id] |= hit));
    return all;
  };

  /**
   * Prepares the search of a table of pairs.
   * @param {Object} table the chunk pairs/table
   * @param {{a: Object, b: Object}} words the chunks features/words_a and features/words_b
   * @returns {function({query: string, rule: number, least: number}): {kept: Uint8Array,
   *   hits: {a: Uint8Array, b: Uint8Array}}} which rows fit a search, a rule (-1: any) and a least held-out r
   *   (0: any), and which of each side's words the search names
   */
  xmodel.makeSearch = (table, words) => {
    const sides = { a: describe(words.a), b: describe(words.b) };
    return ({ query, rule, least }) => {
      const { named, terms } = readQuery(query);
      // What one feature has is asked once, and not for each of its pairs.
      const a = terms.map((term) => findTerm(term, sides.a));
      const b = terms.map((term) => findTerm(term, sides.b));
      const kept = new Uint8Array(table.a.length);
      for (let row = 0; row < kept.length; row += 1) {
        if (rule >= 0 && !((table.rules[row] >> rule) & 1)) continue;
        if (least > 0 && !(xmodel.heldOut(table, row) >= least)) continue;
        const one = table.a[row];
        const other = table.b[row];
        if (named.a.length && !named.a.includes(one)) continue;
        if (named.b.length && !named.b.includes(other)) continue;
        if (terms.every((_, at) => a[at].holds[one] || b[at].holds[other])) kept[row] = 1;
      }
      return {
        kept,
        hits: { a: join(a, sides.a.words.length), b: join(b, sides.b.words.length) },
      };
    };
  };

  /**
   * A pair's r on the held-out half in the direction of its r: of signed features an r below 0 is as good.
   * @param {Object} table the chunk pairs/table
   * @param {number} row
   * @returns {number} NaN where it was not measured
   */
  xmodel.heldOut = (table, row) => {
    const value = table.r_heldout[row];
    if (value === null) return NaN;
    return xmodel.run.signed && table.r[row] < 0 ? -value : value;
  };
})();
