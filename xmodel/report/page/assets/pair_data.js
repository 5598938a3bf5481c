/* The table of pairs and the words of all features, and which features go together. Adds to `xmodel`. */
(() => {
  "use strict";

  let reading = null;

  /** A number that no other pair has, exact in floating point. */
  const keyOf = (a, b) => a * 2 ** 26 + b;

  const topWords = (features, number) => features.top[number].map((id) => features.words[id]);

  const prepare = ([table, a, b]) => {
    const words = { a, b };
    const rows = new Map();
    const best = { a: new Map(), b: new Map() };
    table.a.forEach((one, row) => {
      const other = table.b[row];
      rows.set(keyOf(one, other), row);
      if (!best.a.has(one)) best.a.set(one, row);
      if (!best.b.has(other)) best.b.set(other, row);
    });
    const search = xmodel.makeSearch(table, words);
    let hits = { a: [], b: [] };
    return {
      table,
      words,
      /** The row of a pair in the table, -1 if no rule chose it. */
      find: (one, other) => rows.get(keyOf(one, other)) ?? -1,
      /** The first row of a feature, -1 if it has none. */
      bestOf: (side, number) => best[side].get(number) ?? -1,
      top: (side, number) => topWords(words[side], number),
      /** Per top word, whether the last search names it. */
      hits: (side, number) => words[side].top[number].map((id) => hits[side][id] === 1),
      /** How many features the dictionary of a side has. */
      count: (side) => words[side].top.length,
      /** Which rows fit a search, see `xmodel.makeSearch`: 1 or 0 for each. */
      select: (wanted) => {
        const found = search(wanted);
        hits = found.hits;
        return found.kept;
      },
    };
  };

  /**
   * Reads the table of pairs and the words of all features, once.
   * @returns {Promise<Object>} see `prepare`
   */
  xmodel.readPairs = () => {
    const names = ["pairs/table", "features/words_a", "features/words_b"];
    reading ??= Promise.all(names.map(xmodel.load)).then(prepare);
    reading.catch(() => {
      reading = null;
    });
    return reading;
  };

  /** The rules of pairing in words, by their names in the run. */
  xmodel.ruleNames = {
    best_of_a: "best partner of each a",
    best_of_b: "best partner of each b",
    mutual: "mutual best",
    one_to_one: "one to one, greedy",
    many_to_one: "many a to one b",
    optimal: "one to one, optimal",
  };

  /** The address of a pair, or of its other feature alone where the pair is not in the table. */
  xmodel.partnerLink = (pairs, side, number, other) => {
    const [a, b] = side === "a" ? [number, other] : [other, number];
    return pairs.find(a, b) >= 0 ? `#a=${a}&b=${b}` : `#${side === "a" ? "b" : "a"}=${other}`;
  };
})();
