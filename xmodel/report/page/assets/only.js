/* Features not shown to have a partner, ranked; each opens its contexts in place. Registers `only`. */
(() => {
  "use strict";

  const { el, format } = xmodel;
  const STEP = 100;
  const byId = (id) => document.getElementById(id);
  let current = "";

  const COLUMNS = [
    ["feature", ""],
    ["firings", "number", "words that it fires on"],
    ["mean", "number", "mean activation where it fires"],
    ["max", "number", "strongest activation"],
    ["total", "number", "firings × mean: the ranking"],
    ["best r", "number", "with the best partner, discovery half"],
    ["held out", "number", "r with the same partner on the held-out half"],
    ["chance reaches", "number", "r that the feature's own null reaches with a probability of 0.05"],
    ["p", "number", "share of the null that reaches the best r"],
    ["best partner", ""],
    ["top words", ""],
    ["label or concept", ""],
    ["where it fires", ""],
  ];

  const nameOf = (words, feature) => {
    const own = words.labels?.[feature];
    if (own) return own;
    const carried = words.carried?.label?.[feature];
    return carried ? `${carried} (carried over)` : words.concept?.[feature] ?? "";
  };

  const toggle = async (button, row, side, feature) => {
    const opened = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!opened));
    row.classList.toggle("opened", !opened);
    if (opened) {
      row.nextElementSibling?.remove();
      return;
    }
    const waiting = el("p", { class: "loading", text: "Loading …" });
    const cell = el("td", { colspan: String(COLUMNS.length) }, waiting);
    row.after(el("tr", { class: "contexts-row" }, cell));
    try {
      cell.replaceChildren(await xmodel.contexts(side, feature));
    } catch (error) {
      xmodel.showFailure(cell, error);
    }
  };

  const drawRow = (side, other, data, words, place) => {
    const feature = data.f[place];
    const partner = data.partner[place];
    const button = el("button", {
      type: "button",
      class: "open",
      "aria-expanded": "false",
      "aria-label": `Contexts of ${side} ${feature}`,
      text: "contexts",
    });
    const number = (text) => el("td", { class: "number", text });
    const reached = number(format.r(data.reach[place]));
    reached.title = `the null's mean ${format.r(data.mean_r[place])}, sd ${format.r(data.sd_r[place])}`;
    const row = el(
      "tr",
      { data: { feature } },
      el("td", {}, el("a", { href: `#${side}=${feature}`, text: `${side} ${feature}` })),
      number(format.count(data.firings[place])),
      number(format.value(data.mean[place])),
      number(format.value(data.maximum[place])),
      number(format.value(data.total[place])),
      number(format.r(data.r[place])),
      number(format.r(data.heldout[place])),
      reached,
      number(format.p(data.p[place])),
      el(
        "td",
        {},
        partner === null ? "none" : el("a", { href: `#${other}=${partner}`, text: `${other} ${partner}` }),
      ),
      el("td", { class: "words" }, words.top[feature].map((id) => xmodel.word(words.words[id]))),
      el("td", {}, xmodel.word(nameOf(words, feature))),
      el("td", {}, button),
    );
    button.addEventListener("click", () => toggle(button, row, side, feature));
    return row;
  };

  const drawTable = (side, data, words) => {
    const other = side === "a" ? "b" : "a";
    const body = el("tbody");
    const more = el("button", { type: "button" });
    let shown = 0;
    const add = () => {
      const stop = Math.min(shown + STEP, data.f.length);
      for (let place = shown; place < stop; place += 1) body.append(drawRow(side, other, data, words, place));
      shown = stop;
      more.hidden = shown === data.f.length;
      more.textContent = `Show ${Math.min(STEP, data.f.length - shown)} more`;
    };
    more.addEventListener("click", () => {
      const first = shown;
      add();
      body.querySelectorAll("tr[data-feature]")[first]?.querySelector("a").focus();
      xmodel.announce(`${shown} of ${data.alone} features are shown.`);
    });
    add();
    const cells = COLUMNS.map(([title, kind, note]) =>
      el("th", { scope: "col", class: kind, title: note, text: title }),
    );
    const table = el("table", { class: "only" }, el("thead", {}, el("tr", {}, cells)), body);
    const label = `Features of ${side} that are not shown to have a partner`;
    return [
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table),
      el("p", {}, more),
    ];
  };

  const show = async (side) => {
    if (side === current) return;
    current = side;
    for (const one of ["a", "b"]) byId(`only-${one}`).setAttribute("aria-pressed", String(one === side));
    const list = byId("only-list");
    list.setAttribute("aria-busy", "true");
    try {
      const [data, words] = await Promise.all([
        xmodel.load(`only/${side}`),
        xmodel.load(`features/words_${side}`),
      ]);
      if (side !== current) return;
      const listed = data.f.length;
      byId("only-count").replaceChildren(
        listed < data.alone
          ? `the first ${format.count(listed)} of ${format.count(data.alone)}, all in `
          : `${format.count(listed)} features, also in `,
        el("a", { href: data.file, download: data.file, text: data.file }),
      );
      const nothing = el("p", { text: `Every judged feature of ${side} is shown to have a partner.` });
      list.replaceChildren(...(listed ? drawTable(side, data, words) : [nothing]));
      list.removeAttribute("aria-busy");
    } catch (error) {
      current = "";
      xmodel.showFailure(list, error);
    }
  };

  xmodel.part("only", {
    start() {
      for (const side of ["a", "b"]) {
        byId(`only-${side}`).addEventListener("click", () =>
          xmodel.go({ part: "only", side }, { replace: true }),
        );
      }
    },
    show: (params) => show(params.side === "b" ? "b" : "a"),
  });
})();
