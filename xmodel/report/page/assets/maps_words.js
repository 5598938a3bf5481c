/* Which features fire on a word: looked up in the chunks words/. Adds `xmodel.findWord`. */
(() => {
  "use strict";

  const OFFERED = 8;
  let reading = null;

  /**
   * A letter without case, as Python's casefold: by way of its capital, so that ß is ss, ς σ, and ſ s. The i
   * without a dot has a capital that is not its own; Cherokee is folded to its capitals.
   */
  const foldLetter = (letter) => {
    if (letter === "ı") return letter;
    if (/\p{Script=Cherokee}/u.test(letter)) return letter.toUpperCase();
    return [...letter.toLowerCase().toUpperCase()].map((one) => one.toLowerCase()).join("");
  };

  /** As `fold_word` in Python: without case, with ' for every apostrophe. */
  const fold = (word) => [...word].map(foldLetter).join("").replaceAll(/[’‘]/g, "'");

  /** What a word may stand as in the index: folded, as it was typed, with accents put together or apart. */
  const spell = (word) => {
    const forms = [word, ...["NFC", "NFD", "NFKC"].map((form) => word.normalize(form))];
    const lower = forms.map((form) => form.toLowerCase());
    return [...new Set([fold(word), ...forms, ...lower, ...forms.map(fold)])];
  };

  const read = () => {
    reading ??= xmodel.load("words/index").then((index) => ({
      ...index,
      places: new Map(index.words.map((word, place) => [word, place])),
    }));
    reading.catch(() => (reading = null));
    return reading;
  };

  /** The most frequent words that begin as a word does, for as many of its letters as any begins with. */
  const offer = (words, sought) => {
    const letters = [...sought];
    for (let length = letters.length; length > 0; length -= 1) {
      const start = letters.slice(0, length).join("");
      const found = [];
      for (const word of words) {
        if (word.startsWith(start)) found.push(word);
        if (found.length === OFFERED) break;
      }
      if (found.length) return found;
    }
    return [];
  };

  /** A word as the index has it, see `fold`. */
  xmodel.foldWord = fold;

  /**
   * Looks a word up.
   * @param {string} text as it was typed
   * @returns {Promise<Object>} word, count, a and b: the features that fire on it, strongest first, strengths:
   *   by side, how strongly in hundredths of a feature's maximum, more: how many are left out by side; or,
   *   where it does not occur, word and offers: words that begin alike
   */
  xmodel.findWord = async (text) => {
    const index = await read();
    const spellings = spell(text.trim());
    const word = spellings.find((one) => index.places.has(one)) ?? spellings[0];
    const place = index.places.get(word);
    if (place === undefined) return { word, offers: offer(index.words, word) };
    const chunk = await xmodel.load(xmodel.chunkName("words/", place, index.chunk));
    const { a, b, s, more = {} } = chunk[place % index.chunk];
    return { word, count: index.count[place], a, b, strengths: s, more };
  };
})();
