/* The table of all pairs: Tabulator, and the keys and roles that it lacks. Adds `xmodel.makePairTable`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const PAGE = 10;
  const HEIGHT = 28;
  const FEATURES = ["a", "b"];

  const HEADS = {
    a: "A's feature: its number, the name given to it, its top words",
    b: "B's feature: its number, the name given to it, its top words",
    r: "Pearson's correlation of both activations over words of the discovery half, where pairs are found",
    heldout: "The same on the held-out half, which had no part in finding the pair",
    margin: "r less that of the next best partner of A's feature",
    n_a: "Words of the discovery half on which A's feature fires",
    n_b: "Words of the discovery half on which B's feature fires",
    n_ab: "Words of the discovery half on which both fire",
    both_heldout: "Held-out words on which both fire: a held-out r of few is worth little",
  };

  const makeColumns = (pairs, narrow) => {
    const right = { hozAlign: "right", headerHozAlign: "right" };
    const numeric = { ...right, sorter: "number", sorterParams: { alignEmptyValues: "bottom" } };
    const plain = (show) => ({ ...numeric, formatter: (cell) => show(cell.getValue()) });
    // Of signed features an r below 0 is as good as one above it.
    const bySize = (one, other) => Math.abs(one) - Math.abs(other);
    const feature = (side) => ({
      formatter: (cell) => xmodel.drawFeatureLine(pairs, side, cell.getValue()),
      sorter: "number",
      headerSortStartingDir: "asc",
      minWidth: narrow ? 119 : 130,
      widthGrow: 3,
    });
    const features = [
      { title: "feature of a", field: "a", ...feature("a") },
      { title: "feature of b", field: "b", ...feature("b") },
    ];
    const judged = [
      { title: "r", field: "r", width: narrow ? 56 : 66, ...plain(format.r), sorter: bySize },
      { title: "held out", field: "heldout", width: narrow ? 66 : 76, ...plain(format.r) },
    ];
    return [
      ...(narrow ? [...judged, ...features] : [...features, ...judged]),
      { title: "margin", field: "margin", width: 88, ...plain(format.r) },
      { title: "a fires", field: "n_a", width: 76, ...plain(format.count) },
      { title: "b fires", field: "n_b", width: 76, ...plain(format.count) },
      { title: "both", field: "n_ab", width: 72, ...plain(format.count) },
      { title: "both, held out", field: "both_heldout", width: 102, ...plain(format.count) },
    ];
  };

  const makeRows = ({ table }) =>
    table.a.map((a, id) => ({
      id,
      a,
      b: table.b[id],
      r: table.r[id],
      heldout: table.r_heldout[id],
      margin: table.margin[id],
      n_a: table.n_a[id],
      n_b: table.n_b[id],
      n_ab: table.n_ab[id],
      both_heldout: table.n_ab_heldout[id],
    }));

  /** Lets the headers be reached and pressed without a mouse, and says what they are. */
  const openHeaders = (holder) => {
    for (const header of holder.querySelectorAll(".tabulator-col.tabulator-sortable")) {
      header.title = HEADS[header.getAttribute("tabulator-field")];
      header.tabIndex = 0;
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        header.click();
      });
    }
  };

  /**
   * Makes what scrolls the grid, because that is what has the focus, and tells the row selected: Tabulator
   * gives the role to an element around it, which may hold nothing that has the focus but rows.
   */
  const makeGrid = (holder, scroller) => {
    for (const name of ["role", "aria-owns"]) holder.removeAttribute(name);
    const header = holder.querySelector(".tabulator-header");
    header.id = "pairs-header";
    scroller.setAttribute("role", "grid");
    scroller.setAttribute("aria-owns", header.id);
    scroller.setAttribute("aria-label", "Pairs of features");
  };

  /** Makes the table end with a whole row. */
  const fitRows = (holder, scroller, table) => {
    const high = scroller.querySelector(".tabulator-row")?.offsetHeight ?? HEIGHT;
    const around = holder.offsetHeight - scroller.clientHeight;
    const rows = Math.max(5, Math.floor(scroller.clientHeight / high));
    table.setHeight(around + rows * high);
  };

  const STEPS = {
    ArrowDown: 1,
    ArrowUp: -1,
    PageDown: PAGE,
    PageUp: -PAGE,
    Home: -Infinity,
    End: Infinity,
  };

  /**
   * Makes the table.
   * @param {HTMLElement} holder
   * @param {Function} Tabulator the library
   * @param {Object} pairs see `xmodel.readPairs`
   * @param {Object<string, function>} on select(row): a row was clicked; step(key): a key of STEPS; enter();
   *   sorted(text): "field", or "-field" for descending
   * @returns {Promise<Object>} keep(kept), mark(row), neighbour(row, key), holds(row), sort(text), focus()
   */
  xmodel.makePairTable = async (holder, Tabulator, pairs, on) => {
    let kept = null;
    let order = null; // rows from top to bottom, made when it is asked for
    let marked = -1;
    let round = 0; // of searches, each of which marks other words
    const narrow = matchMedia("(max-width: 640px)").matches;
    const elements = new Map(); // of rows that were drawn once: Tabulator keeps them, in the page or not
    holder.replaceChildren();
    const dress = (row) => {
      const element = row.getElement();
      const { id } = row.getData();
      element.id = `pair-${id}`;
      elements.set(id, element);
      element.dataset.round = round;
      element.setAttribute("aria-selected", id === marked ? "true" : "false");
    };
    const table = new Tabulator(holder, {
      data: makeRows(pairs),
      columns: makeColumns(pairs, narrow),
      columnDefaults: {
        resizable: false,
        headerSortStartingDir: "desc",
        headerSortTristate: false,
        headerWordWrap: true,
      },
      layout: "fitColumns",
      initialSort: [{ column: "r", dir: "desc" }],
      height: getComputedStyle(holder).height,
      rowHeight: HEIGHT,
      renderVerticalBuffer: 4 * HEIGHT,
      headerSortClickElement: "header",
      rowFormatter: dress,
      keybindings: false,
    });
    await new Promise((resolve) => table.on("tableBuilt", resolve));
    const scroller = holder.querySelector(".tabulator-tableholder");
    holder.removeAttribute("aria-busy");
    makeGrid(holder, scroller);
    openHeaders(holder);
    fitRows(holder, scroller, table);

    /** Tabulator keeps rows that it has drawn: when they come back, their words are marked anew. */
    const refresh = () => {
      for (const element of scroller.querySelectorAll(".tabulator-row")) {
        if (element.dataset.round === String(round)) continue;
        element.dataset.round = round;
        const row = Number(element.id.replace("pair-", ""));
        for (const side of FEATURES) {
          const cell = element.querySelector(`[tabulator-field="${side}"]`);
          cell.replaceChildren(xmodel.drawFeatureLine(pairs, side, pairs.table[side][row]));
        }
      }
    };
    new MutationObserver(refresh).observe(scroller.querySelector(".tabulator-table"), { childList: true });

    const list = () => {
      order ??= table.getData("active").map(({ id }) => id);
      return order;
    };
    const forget = () => {
      order = null;
    };
    table.on("dataFiltered", forget);
    table.on("dataSorted", (sorters) => {
      forget();
      if (!sorters.length) return;
      const [{ field, dir }] = sorters;
      on.sorted(dir === "desc" ? `-${field}` : field);
    });
    table.on("rowClick", (_, row) => on.select(row.getData().id));
    holder.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter") on.enter();
      else if (event.key in STEPS) on.step(event.key);
      else return;
      event.preventDefault();
    });

    const neighbour = (row, key) => {
      const rows = list();
      const at = rows.indexOf(row);
      if (at < 0) return rows[key === "End" ? rows.length - 1 : 0] ?? -1;
      return rows[Math.max(0, Math.min(rows.length - 1, at + STEPS[key]))];
    };
    const mark = (row) => {
      elements.get(marked)?.setAttribute("aria-selected", "false");
      elements.get(row)?.setAttribute("aria-selected", "true");
      marked = row;
      const at = list().indexOf(row);
      if (at < 0) {
        scroller.removeAttribute("aria-activedescendant");
        return;
      }
      // Rows are of one height, so the place is known without the row being drawn.
      const high = scroller.querySelector(".tabulator-row")?.offsetHeight ?? HEIGHT;
      const top = at * high;
      const room = scroller.clientHeight;
      const above = scroller.scrollTop - top;
      const below = top + high - scroller.scrollTop - room;
      // A step leads to the row at the edge; what is further off comes to the middle, with its neighbours.
      if (Math.max(above, below) > 2 * high) scroller.scrollTop = top - (room - high) / 2;
      else if (above > 0) scroller.scrollTop = top;
      else if (below > 0) scroller.scrollTop += below;
      scroller.setAttribute("aria-activedescendant", `pair-${row}`);
    };
    return {
      keep: (rows) => {
        kept = rows;
        round += 1;
        table.setFilter(({ id }) => kept[id] === 1);
        refresh();
      },
      mark,
      neighbour,
      holds: (row) => row >= 0 && kept?.[row] === 1,
      sort: (text) => {
        const field = text.replace(/^-/, "");
        if (field in HEADS) {
          table.setSort(field, text.startsWith("-") ? "desc" : "asc");
        }
      },
      focus: () => scroller.focus(),
    };
  };
})();
