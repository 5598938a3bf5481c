/* The foundation of the page: chunks of data, elements, numbers as text, colours. Makes `xmodel`. */
(() => {
  "use strict";

  const xmodel = (globalThis.xmodel ??= {});
  const KEPT_CHUNKS = 64;
  const NUMBERED = /(^|[/-])\d{4,}$/;
  const arrived = new Map();
  const promises = new Map();
  const themeListeners = [];
  const LIBRARIES = { Plotly: "assets/plotly.min.js", Tabulator: "assets/tabulator.min.js" };

  const addScript = (path) =>
    new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = path;
      script.addEventListener("load", () => {
        script.remove();
        resolve();
      });
      script.addEventListener("error", () => {
        script.remove();
        const why = "was the page's folder copied without it? Write the report anew.";
        reject(new Error(`${path} cannot be read: ${why}`));
      });
      document.head.append(script);
    });

  /**
   * Receives the payload of a chunk; called by the scripts in data/ and by nothing else.
   * @param {string} name the chunk's name, for instance "pairs/0003"
   * @param {*} payload what the contract of the chunk says
   */
  xmodel.take = (name, payload) => {
    if (name === "run") {
      xmodel.run = payload;
      promises.set(name, Promise.resolve(payload));
    } else arrived.set(name, payload);
  };

  /**
   * Loads a chunk from data/NAME.js. Scripts are the only thing a page opened from disk may read.
   * @param {string} name the chunk's name
   * @returns {Promise<*>} its payload; rejects with an Error whose message a reader can act on
   */
  xmodel.load = (name) => {
    let promise = promises.get(name);
    if (promise) {
      // A Map keeps the order of insertion: what is put in again is the last to be forgotten.
      promises.delete(name);
      promises.set(name, promise);
      return promise;
    }
    promise = addScript(`data/${name}.js`).then(() => {
      if (!arrived.has(name)) {
        throw new Error(`data/${name}.js holds no data under its name. Write the report anew.`);
      }
      const payload = arrived.get(name);
      arrived.delete(name);
      return payload;
    });
    promise.catch(() => promises.delete(name));
    promises.set(name, promise);
    const numbered = [...promises.keys()].filter((key) => NUMBERED.test(key));
    for (const key of numbered.slice(0, Math.max(0, numbered.length - KEPT_CHUNKS))) promises.delete(key);
    return promise;
  };

  /**
   * Loads a library when it is first needed: opening the page does not wait for megabytes of them.
   * @param {"Plotly"|"Tabulator"} name the global that the library makes
   * @returns {Promise<*>} the library
   */
  xmodel.library = (name) => {
    const path = LIBRARIES[name];
    let promise = promises.get(path);
    if (!promise) {
      promise = addScript(path).then(() => globalThis[name]);
      promise.catch(() => promises.delete(path));
      promises.set(path, promise);
    }
    return promise;
  };

  /**
   * The name of the numbered chunk that holds an item.
   * @param {string} prefix "pairs/", "text/", "words/", "features/a-" or "features/b-"
   * @param {number} index the item's number
   * @param {number} size items per chunk
   * @returns {string} for instance "features/a-0003"
   */
  xmodel.chunkName = (prefix, index, size) => prefix + String(Math.floor(index / size)).padStart(4, "0");

  /**
   * Makes an element. Texts only ever become text: there is no way to pass markup.
   * @param {string} tag
   * @param {Object} [settings] class, text, title, data ({name: value}), css ({"--name": value}), on
   *   ({event: listener}); anything else is an attribute (true: empty; false, null, undefined: left out)
   * @param {...(Node|string|number|Array|null)} children null is left out, arrays are flattened
   * @returns {HTMLElement}
   */
  xmodel.el = (tag, settings = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(settings)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") element.className = value;
      else if (key === "text") element.textContent = value;
      else if (key === "data") Object.assign(element.dataset, value);
      else if (key === "on") {
        for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
      } else if (key === "css") {
        for (const [name, setting] of Object.entries(value)) element.style.setProperty(name, setting);
      } else if (/^on|^srcdoc$/i.test(key)) throw new Error(`el: an attribute ${key} is not allowed.`);
      else if (key === "href" && !/^(#|https:\/\/|[\w-]+(\/[\w-]+)*\.(csv|jsonl|svg|pdf)$)/.test(value)) {
        throw new Error(`el: a link to ${value} is not allowed.`);
      } else element.setAttribute(key, value === true ? "" : String(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false) {
        element.append(child instanceof Node ? child : String(child));
      }
    }
    return element;
  };

  /**
   * A word of a corpus as an element of its own direction, so that right-to-left words stay in their place.
   * @param {string} text
   * @param {Object} [settings] as in `el`
   */
  xmodel.word = (text, settings = {}) => xmodel.el("bdi", { ...settings, text });

  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const dash = "–";
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const minus = (text) => text.replace("-", "−");
  const significant = (value) => {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
    return size >= 1000 ? whole.format(value) : value.toPrecision(3);
  };

  /** Numbers as text, the same everywhere; what is no number is a dash. */
  xmodel.format = {
    /** 1,234 */
    count: (value) => (isNumber(value) ? minus(whole.format(value)) : dash),
    /** A correlation or a difference of two, with three digits after the point. */
    r: (value) => (isNumber(value) ? minus(value.toFixed(3)) : dash),
    /** A p-value: two significant digits, or a bound. */
    p: (value) => {
      if (!isNumber(value)) return dash;
      return value < 0.0001 ? "< 0.0001" : String(Number(value.toPrecision(2)));
    },
    /** A share of 1 in percent. */
    share: (value) => {
      if (!isNumber(value)) return dash;
      const percent = 100 * value;
      return minus(`${percent.toFixed(Math.abs(percent) < 10 && percent !== 0 ? 1 : 0)}%`);
    },
    /** Three significant digits. */
    value: (value) => (isNumber(value) ? minus(significant(value)) : dash),
  };

  /**
   * Says something to those who hear the page.
   * @param {string} text a sentence
   */
  xmodel.announce = (text) => {
    const live = document.getElementById("live");
    if (live) live.textContent = text;
  };

  /**
   * Shows in the page that something went wrong, in place of what an element held.
   * @param {HTMLElement} element
   * @param {Error} error
   */
  xmodel.showFailure = (element, error) => {
    element.removeAttribute("aria-busy");
    element.replaceChildren(xmodel.el("p", { class: "failure", role: "alert", text: error.message }));
  };

  /**
   * Reads a CSS variable.
   * @param {string} name with or without the two hyphens: "a", "--a"
   * @returns {string} the colour in the present theme
   */
  xmodel.color = (name) => {
    const variable = name.startsWith("--") ? name : `--${name}`;
    return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  };

  /**
   * Calls a function whenever the theme changes, by the switch or by the system.
   * @param {function(): void} listener
   */
  xmodel.onTheme = (listener) => themeListeners.push(listener);

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tellTheme = () => {
    for (const listener of themeListeners) listener();
  };

  /** Whether the page is dark now. */
  xmodel.isDark = () => {
    const { theme } = document.documentElement.dataset;
    return theme ? theme === "dark" : dark.matches;
  };

  /**
   * Sets the theme and remembers it, where the browser lets a page opened from disk remember anything.
   * @param {"light"|"dark"} theme
   */
  xmodel.setTheme = (theme) => {
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("xmodel-theme", theme);
    } catch {
      // Some browsers give pages from disk no storage; the theme then lasts as long as the page.
    }
    tellTheme();
  };
  dark.addEventListener("change", tellTheme);
})();
