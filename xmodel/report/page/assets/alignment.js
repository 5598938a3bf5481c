/* The alignment viewer: passages with both models' tokens under the words. Registers the part `alignment`. */
(() => {
  "use strict";

  const { el } = xmodel;
  const SIGNS = { rewritten: "~", unknown: "?", deleted: "x", joined: "^", literal: "!", shared: "*" };
  const EXCLUDED = ["first", "massive", "oversized"];
  const INEXACT = ["rewritten", "unknown", "deleted"];
  const byId = (id) => document.getElementById(id);
  const TOLD = 6; // tokens of a side that are spelled out under the passage
  let index = null;
  let current = -1;

  const signs = (marks) => marks.map((mark) => SIGNS[mark] ?? "").join("");
  const has = (marks, list) => marks.some((mark) => list.includes(mark));
  const explain = (marks) => marks.map((mark) => index.marks[mark]).join("; ");
  const marksOf = (token) => token[4] ?? [];
  const isInexact = (column) =>
    has(column.m ?? [], INEXACT) ||
    ["a", "b"].some((side) => column[side].some((token) => has(marksOf(token), INEXACT)));

  const drawToken = (side, token) => {
    const marks = marksOf(token);
    const classes = ["token", side];
    if (has(marks, INEXACT)) classes.push("inexact");
    if (has(marks, EXCLUDED)) classes.push("excluded");
    if (token[2] === token[3]) classes.push("none");
    const sign = signs(marks);
    const data = marks.includes("shared") ? { token: `${side}:${token[2]}:${token[1]}` } : {};
    return el(
      "span",
      { class: classes.join(" "), data },
      xmodel.word(token[0]),
      sign ? el("span", { class: "sign", text: sign }) : null,
    );
  };

  const drawRow = (side, column) => {
    const hidden = column[`more_${side}`];
    return el(
      "span",
      { class: "row" },
      column[side].map((token) => drawToken(side, token)),
      hidden ? el("span", { class: "token none", text: `+${xmodel.format.count(hidden)}` }) : null,
    );
  };

  const drawColumn = (column, place) => {
    const marks = column.m ?? [];
    const sign = signs(marks);
    return el(
      "div",
      {
        class: `column ${column.k}${isInexact(column) ? " inexact" : ""}`,
        role: "option",
        "aria-selected": "false",
        tabindex: place === 0 ? "0" : "-1",
        data: { place },
      },
      el(
        "span",
        { class: "heading" },
        xmodel.word(column.t),
        sign ? el("span", { class: "sign", text: sign }) : null,
      ),
      drawRow("a", column),
      drawRow("b", column),
    );
  };

  const KINDS = { word: "word", out: "not in the run", gap: "between words" };

  const tell = (column) => {
    const bytes = (low, high) => (high > low ? `bytes ${low}–${high}` : `no bytes, at ${low}`);
    const noted = (marks) => (marks.length ? `; ${explain(marks)}` : "");
    const listed = (side) => {
      const more = column[side].length - TOLD + (column[`more_${side}`] ?? 0);
      return [
        column[side].slice(0, TOLD).map((token, place) => [
          place ? ", " : " ",
          xmodel.word(token[0]),
          ` id ${token[1]} (${bytes(token[2], token[3])}${noted(marksOf(token))})`,
        ]),
        more > 0 ? ` and ${xmodel.format.count(more)} more` : null,
      ];
    };
    const marks = (column.m ?? []).filter((mark) => mark !== "out");
    const group = column.g === undefined ? "" : `, group ${column.g}`;
    byId("passage-said").replaceChildren(
      el(
        "p",
        {},
        el("strong", {}, xmodel.word(column.t || "gap")),
        ` ${KINDS[column.k]}${group}, ${bytes(column.s, column.e)}${noted(marks)}`,
      ),
      ...["a", "b"].map((side) =>
        el("p", {}, el("strong", { text: `${side}:` }), column[side].length ? listed(side) : " no token"),
      ),
    );
  };

  /** Lights a column, and the tokens that it shares with others. */
  const choose = (list, columns, place, focus) => {
    for (const old of list.querySelectorAll("[aria-selected='true'], .lit")) {
      old.classList.remove("lit");
      if (old.role === "option") {
        old.setAttribute("aria-selected", "false");
        old.tabIndex = -1;
      }
    }
    const column = list.children[place];
    column.setAttribute("aria-selected", "true");
    column.tabIndex = 0;
    for (const token of column.querySelectorAll("[data-token]")) {
      const twins = list.querySelectorAll(`[data-token="${token.dataset.token}"]`);
      if (twins.length > 1) for (const twin of twins) twin.classList.add("lit");
    }
    if (focus) column.focus();
    tell(columns[place]);
  };

  const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e6, End: 1e6 };

  const drawPassage = (passage) => {
    const list = el(
      "div",
      { class: "passage", role: "listbox", "aria-label": "Words with the tokens of a and of b" },
      passage.columns.map(drawColumn),
    );
    list.addEventListener("mouseover", (event) => {
      const column = event.target.closest(".column");
      if (column) choose(list, passage.columns, Number(column.dataset.place), false);
    });
    list.addEventListener("focusin", (event) => {
      const column = event.target.closest(".column");
      if (column) choose(list, passage.columns, Number(column.dataset.place), false);
    });
    list.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      const column = event.target.closest(".column");
      if (!step || !column) return;
      event.preventDefault();
      const place = Number(column.dataset.place) + step;
      choose(list, passage.columns, Math.min(Math.max(place, 0), passage.columns.length - 1), true);
    });
    const more = `… and ${xmodel.format.count(passage.more)} more columns.`;
    return [list, passage.more ? el("p", { text: more }) : null];
  };

  const drawTable = (passage) => {
    const tokens = (column, side) =>
      column[side].map((token, place) => [
        place ? " | " : "",
        xmodel.word(token[0]),
        ` ${signs(marksOf(token))}`,
      ]);
    const notes = (column) => {
      const marks = [...(column.m ?? []), ...["a", "b"].flatMap((side) => column[side].flatMap(marksOf))];
      return [...new Set(marks)].join(", ");
    };
    const rows = passage.columns.map((column) =>
      el(
        "tr",
        {},
        el("td", { class: "number", text: column.g ?? "–" }),
        el("td", { class: "number", text: `${column.s}–${column.e}` }),
        el("td", {}, xmodel.word(column.t || "–")),
        el("td", {}, tokens(column, "a")),
        el("td", {}, tokens(column, "b")),
        el("td", { text: notes(column) }),
      ),
    );
    const titles = ["group", "bytes", "word", "tokens of a", "tokens of b", "marks"];
    const head = el("tr", {}, titles.map((title) => el("th", { scope: "col", text: title })));
    const table = el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
    const label = "The passage as a table";
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
  };

  const drawLegend = () => {
    const items = [
      [el("b", { text: "1st row" }), " words; rows below: tokens of a (blue edge), of b (orange edge)"],
      [el("b", { text: "· ∅" }), " a space; a token without bytes"],
      [el("s", { text: "struck" }), " token that stands for no word (first position, massive)"],
      ...Object.entries(SIGNS).map(([mark, sign]) => [
        el("span", { class: "sign", text: sign }),
        ` ${index.marks[mark]}`,
      ]),
    ];
    byId("passage-legend").replaceChildren(
      el("div", { class: "passage-legend" }, items.map((item) => el("span", {}, item))),
    );
  };

  const show = async (number) => {
    const text = byId("passage-text");
    if (!index.passages.length) {
      text.replaceChildren(el("p", { text: "The run has no words." }));
      return;
    }
    if (number === current) return;
    current = number;
    byId("passage").value = String(number);
    byId("passage-before").disabled = number === 0;
    byId("passage-after").disabled = number === index.passages.length - 1;
    text.setAttribute("aria-busy", "true");
    try {
      const chunk = await xmodel.load(xmodel.chunkName("alignment/", number, index.chunk));
      if (number !== current) return;
      const passage = chunk.passages[number % index.chunk];
      text.replaceChildren(...drawPassage(passage).filter(Boolean));
      text.removeAttribute("aria-busy");
      byId("passage-said").replaceChildren();
      const table = byId("passage-table");
      table.replaceChildren(table.firstElementChild);
      const fill = () => {
        if (table.open && table.children.length === 1) table.append(drawTable(passage));
      };
      table.ontoggle = fill;
      fill();
    } catch (error) {
      current = -1;
      xmodel.showFailure(text, error);
    }
  };

  const name = (one, number) => {
    const found = [
      [one.inexact, "not exact"],
      [one.joined, "joined"],
      [one.out, "left out"],
    ].filter(([count]) => count);
    const facts = found.map(([count, what]) => `${xmodel.format.count(count)} ${what}`).join(", ");
    return `${number + 1}. ${one.name} (${one.split})${facts ? `: ${facts}` : ""}`;
  };

  xmodel.part("alignment", {
    async start() {
      index = await xmodel.load("alignment/index");
      const select = byId("passage");
      select.replaceChildren(
        ...index.passages.map((one, number) =>
          el("option", { value: String(number), text: name(one, number) }),
        ),
      );
      const turn = (number) => xmodel.go({ part: "alignment", passage: number + 1 }, { replace: true });
      select.addEventListener("change", () => turn(Number(select.value)));
      byId("passage-controls").addEventListener("submit", (event) => event.preventDefault());
      byId("passage-before").addEventListener("click", () => turn(current - 1));
      byId("passage-after").addEventListener("click", () => turn(current + 1));
      drawLegend();
    },
    async show(params) {
      const asked = Math.trunc(Number(params.passage ?? 1)) || 1;
      await show(Math.min(Math.max(asked - 1, 0), Math.max(0, index.passages.length - 1)));
    },
  });
})();
