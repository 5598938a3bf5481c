/* Which part is shown, and the address that says so. Adds to the global `xmodel`; after core.js. */
(() => {
  "use strict";

  const { el } = xmodel;
  const parts = new Map();
  const started = new Set();
  const listeners = [];
  let followed = ""; // the address that is shown

  /** What the address says: the part's name and its parameters, all strings. */
  xmodel.route = { part: "", params: {} };

  const unescape = (text) => {
    try {
      return decodeURIComponent(text.replaceAll("+", "%20"));
    } catch {
      return text; // a stray percent sign that somebody typed
    }
  };

  /**
   * Takes an address apart: `#part`, `#part&key=value`, or `#key=value&key=value` (part: pairs).
   * @param {string} hash with its `#`
   * @returns {{part: string, params: Object<string, string>}}
   */
  xmodel.readHash = (hash) => {
    const params = Object.create(null);
    let part = "";
    for (const piece of hash.replace(/^#/, "").split("&")) {
      const at = piece.indexOf("=");
      if (at > 0) params[unescape(piece.slice(0, at))] = unescape(piece.slice(at + 1));
      else if (piece && !part) part = unescape(piece);
    }
    return { part: part || (Object.keys(params).length ? "pairs" : ""), params };
  };

  /**
   * The address of a place in the page.
   * @param {Object} place part and parameters; those that are null, undefined or "" are left out
   * @returns {string} for instance "#maps&word=whale"; the part "pairs" is left out beside a or b
   */
  xmodel.writeHash = ({ part = "pairs", ...params }) => {
    const given = Object.entries(params).filter(([, v]) => v !== null && v !== undefined && v !== "");
    const pieces = given.map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`);
    const implied = part === "pairs" && given.length > 0 && ["a", "b"].includes(given[0][0]);
    return `#${[...(implied ? [] : [part]), ...pieces].join("&")}`;
  };

  /**
   * Goes to a place in the page.
   * @param {Object} place see `writeHash`
   * @param {{replace?: boolean, quiet?: boolean}} [how] replace: without an entry in the history; quiet: the
   *   address changes, nothing is called
   */
  xmodel.go = (place, { replace = false, quiet = false } = {}) => {
    // A link was followed whose event is still to come: what wrote late must not undo it.
    if (quiet && location.hash !== followed) return;
    const hash = xmodel.writeHash(place);
    if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
    followed = location.hash;
    xmodel.route = xmodel.readHash(hash);
    if (!quiet) follow();
  };

  /**
   * Calls a function at every visit of any part.
   * @param {function({part: string, params: Object}): void} listener
   */
  xmodel.onRoute = (listener) => listeners.push(listener);

  /**
   * Registers what a part does. A part without is shown as it was rendered, with its figures drawn.
   * @param {string} name
   * @param {{start?: function(HTMLElement): (void|Promise<void>), show?: function(Object): (void|Promise)}}
   *   behaviour start is called the first time the part is shown, show at each visit with the parameters
   */
  xmodel.part = (name, behaviour) => parts.set(name, behaviour);

  const sections = () => [...document.querySelectorAll("main > section[data-part]")];

  const report = (section, error) => {
    console.error(error);
    section.append(el("p", { class: "failure", role: "alert", text: error.message }));
  };

  /** A part that the run lacks is only a sentence, and does nothing. */
  const behaviourOf = (name) => (name in xmodel.run.missing ? {} : (parts.get(name) ?? {}));

  const start = async (section, name) => {
    if (started.has(name)) return;
    started.add(name);
    for (const figure of section.querySelectorAll("figure[data-figure]")) {
      xmodel.drawFigure(figure, figure.dataset.figure);
    }
    await behaviourOf(name).start?.(section);
  };

  /** Says so where an address names a part that the page does not have. */
  const tellLost = (part) => {
    const lost = document.getElementById("lost");
    lost.hidden = !part;
    const name = part.length > 60 ? `${part.slice(0, 60)}…` : part;
    const text = ["This page has no part “", xmodel.word(name), "”; here is its first."];
    lost.replaceChildren(...(part ? text : []));
  };

  /** In a narrow window the menu is one row that scrolls: brings the present part into it. */
  const reveal = (link) => {
    const menu = link.parentElement;
    const before = link.offsetLeft - menu.offsetLeft;
    const after = before + link.offsetWidth - menu.clientWidth;
    menu.scrollLeft = Math.max(after + 24, Math.min(menu.scrollLeft, before - 24));
  };

  /** Shows what the address says. */
  const follow = async () => {
    const known = sections();
    const wanted = known.find((section) => section.dataset.part === xmodel.route.part) ?? known[0];
    if (!wanted) return;
    const name = wanted.dataset.part;
    tellLost(xmodel.route.part && xmodel.route.part !== name ? xmodel.route.part : "");
    const moved = !wanted.classList.contains("current");
    xmodel.route = { part: name, params: xmodel.route.params };
    for (const section of known) section.classList.toggle("current", section === wanted);
    for (const link of document.querySelectorAll("#parts a")) {
      if (link.hash === `#${name}`) {
        link.setAttribute("aria-current", "page");
        reveal(link);
      } else link.removeAttribute("aria-current");
    }
    const title = wanted.querySelector("h2")?.textContent ?? name;
    document.title = `${title} · ${document.body.dataset.title}`;
    if (moved) window.scrollTo(0, 0);
    try {
      await start(wanted, name);
      if (xmodel.route.part === name) await behaviourOf(name).show?.(xmodel.route.params);
    } catch (error) {
      report(wanted, error);
    }
    for (const listener of listeners) listener(xmodel.route);
  };

  /** Begins: called once by start.js, when every part has been registered. */
  xmodel.begin = () => {
    // The ids serve a page without scripts; with them the browser would scroll to the part by itself.
    for (const section of sections()) section.removeAttribute("id");
    const read = () => {
      followed = location.hash;
      xmodel.route = xmodel.readHash(location.hash);
      return follow();
    };
    // Fired by links, by the back button and by hand, and not by what `go` writes.
    window.addEventListener("hashchange", read);
    return read();
  };
})();
