/* The part "pairs": search, the table, and the pair that is selected. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const WRITE_AFTER = 250; // browsers allow about twenty changes of the address per second, and warn of more
  const DRAW_AFTER = 70; // a key held down passes over pairs faster than they can be read
  const DEFAULTS = { q: "", rule: "", least: "", sort: "" };
  const state = { ...DEFAULTS, a: null, b: null, row: -1 };
  const fields = {};
  let pairs = null;
  let table = null;
  let written = 0;
  let drawing = 0;

  const findFields = (section) => {
    const ids = ["search", "rule", "least-r", "pair-count", "pairs-none", "filters", "outside", "detail"];
    for (const id of ids) {
      fields[id] = section.querySelector(`#${id}`);
    }
    fields.rule.append(el("option", { value: "", text: "any rule" }));
    for (const rule of xmodel.run.rules) {
      fields.rule.append(el("option", { value: rule, text: xmodel.ruleNames[rule] ?? rule }));
    }
  };

  /** The address of what is shown; settings that are as usual are left out. */
  const place = () => ({
    part: "pairs",
    a: state.a,
    b: state.b,
    q: state.q,
    rule: state.rule,
    r: state.least,
    sort: state.sort,
  });

  const writeSoon = () => {
    clearTimeout(written);
    written = setTimeout(() => {
      if (xmodel.route.part === "pairs") xmodel.go(place(), { replace: true, quiet: true });
    }, WRITE_AFTER);
  };

  const drawSoon = (delay) => {
    clearTimeout(drawing);
    drawing = setTimeout(() => xmodel.drawDetail(fields.detail, state, pairs), delay);
  };

  const filter = () => {
    const rule = xmodel.run.rules.indexOf(state.rule);
    const kept = pairs.select({ query: state.q, rule, least: Number(state.least) || 0 });
    table.keep(kept);
    const count = kept.reduce((sum, one) => sum + one, 0);
    const text = `${format.count(count)} of ${format.count(kept.length)} pairs`;
    fields["pair-count"].textContent = text;
    fields["pairs-none"].hidden = count > 0;
    fields.filters.replaceChildren(...(count > 0 ? [] : nameFilters()));
    tellOutside();
  };

  /** What pairs must have to be shown. */
  const nameFilters = () => {
    const rule = state.rule && `pairs by: ${xmodel.ruleNames[state.rule] ?? state.rule}`;
    const least = Number(state.least) > 0 && `held-out r at least ${state.least}`;
    const query = state.q.trim() && ["search: “", xmodel.word(state.q.trim()), "”"];
    return [query, rule, least].filter(Boolean).flatMap((one, at) => [at ? "; " : "", one].flat());
  };

  /** Says so where the pair below is not one of those above. */
  const tellOutside = () => {
    fields.outside.hidden = state.row < 0 || table.holds(state.row);
  };

  /** Brings the fields in line with the state. */
  const fill = () => {
    if (fields.search.value !== state.q) fields.search.value = state.q;
    fields.rule.value = state.rule;
    if (Number(fields["least-r"].value) !== Number(state.least)) fields["least-r"].value = state.least || "0";
  };

  const tell = (row) => {
    const { a, b, r } = pairs.table;
    const words = (side, number) => pairs.top(side, number).slice(0, 3).join(", ");
    const one = `a ${a[row]}, ${words("a", a[row])}`;
    xmodel.announce(`${one}; b ${b[row]}, ${words("b", b[row])}; r ${format.r(r[row])}`);
  };

  const select = (row, { push = false, delay = 0 } = {}) => {
    state.row = row;
    state.a = pairs.table.a[row];
    state.b = pairs.table.b[row];
    table.mark(row);
    tellOutside();
    if (push) xmodel.go(place(), { quiet: true });
    else writeSoon();
    drawSoon(delay);
    tell(row);
  };

  const step = (key) => {
    const row = table.neighbour(state.row, key);
    if (row >= 0 && row !== state.row) select(row, { delay: DRAW_AFTER });
  };

  const read = (field, key) => () => {
    state[key] = field.value;
    if (key === "least" && !Number(field.value)) state.least = "";
    filter();
    writeSoon();
  };

  const clear = () => {
    Object.assign(state, DEFAULTS, { sort: state.sort });
    fill();
    filter();
    writeSoon();
  };

  const focusDetail = () => fields.detail.querySelector("h3")?.focus();

  const listen = (section) => {
    section.querySelector("#pair-controls").addEventListener("submit", (event) => event.preventDefault());
    section.querySelector("#clear-filters").addEventListener("click", () => {
      clear();
      fields.search.focus();
    });
    fields.search.addEventListener("input", read(fields.search, "q"));
    fields.rule.addEventListener("change", read(fields.rule, "rule"));
    fields["least-r"].addEventListener("input", read(fields["least-r"], "least"));
    fields.search.addEventListener("keydown", (event) => {
      if (event.key === "Escape") clear();
      else if (event.key === "ArrowDown" || event.key === "Enter") {
        table.focus();
        if (!table.holds(state.row)) step("Home");
      } else return;
      event.preventDefault();
    });
    document.addEventListener("keydown", (event) => {
      const typing = event.target instanceof Element && event.target.closest("input, select, textarea");
      if (xmodel.route.part !== "pairs" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/") {
        event.preventDefault();
        fields.search.focus();
        fields.search.select();
      } else if (event.key === "Escape" && !event.defaultPrevented) {
        if (fields.detail.contains(document.activeElement)) table.focus();
        else clear();
      }
    });
  };

  const start = async (section) => {
    const holder = section.querySelector("#pairs-table");
    try {
      findFields(section);
      const [read, Tabulator] = await Promise.all([xmodel.readPairs(), xmodel.library("Tabulator")]);
      pairs = read;
      table = await xmodel.makePairTable(holder, Tabulator, pairs, {
        select: (row) => select(row, { push: true }),
        step,
        enter: focusDetail,
        sorted: (sort) => {
          // Filtering sorts again; best r first is as usual, and not worth saying.
          const said = sort === "-r" ? "" : sort;
          if (said === state.sort) return;
          state.sort = said;
          writeSoon();
        },
      });
      listen(section);
      filter();
    } catch (error) {
      console.error(error);
      xmodel.showFailure(holder, error);
    }
  };

  const number = (text) => (text === undefined ? null : /^\d+$/.test(text) ? Number(text) : NaN);

  /** The feature, or the two, that an address means; a feature alone comes with its best partner. */
  const resolve = (params) => {
    const a = number(params.a);
    const b = number(params.b);
    if (a !== null && b !== null) return { a, b, row: pairs.find(a, b) };
    const row = a === null ? pairs.bestOf("b", b) : pairs.bestOf("a", a);
    return row < 0 ? { a, b, row } : { a: pairs.table.a[row], b: pairs.table.b[row], row };
  };

  const show = (params) => {
    if (!table) return;
    const named = params.a !== undefined || params.b !== undefined;
    const set = ["q", "rule", "r", "sort"].some((key) => params[key] !== undefined);
    // A link to a pair leaves the search as it is, and takes it along.
    if (set || !named) {
      const rule = xmodel.run.rules.includes(params.rule) ? params.rule : "";
      Object.assign(state, { q: params.q ?? "", rule, least: Number(params.r) ? params.r : "" });
      if (params.sort !== undefined) table.sort(params.sort);
      fill();
      filter();
    }
    const before = `${state.a} ${state.b}`;
    if (named) Object.assign(state, resolve(params));
    else if (state.row < 0) Object.assign(state, firstPair());
    table.mark(state.row);
    tellOutside();
    if (`${state.a} ${state.b}` !== before || !fields.detail.hasChildNodes()) drawSoon(0);
    if (state.row >= 0 && named) writeSoon();
  };

  /** What is shown before anything was chosen. */
  const firstPair = () => {
    const row = table.neighbour(-1, "Home");
    return row < 0 ? { a: null, b: null, row } : { a: pairs.table.a[row], b: pairs.table.b[row], row };
  };

  xmodel.part("pairs", { start, show });
})();
