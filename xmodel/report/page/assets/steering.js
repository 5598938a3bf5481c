/* What both models say next, with and without a push. Adds the behaviour of the part `steering`. */
(() => {
  "use strict";

  const { el, format, word } = xmodel;

  const listWords = (words) => words.map((text, place) => [place ? " · " : null, word(text)]);

  const nameDose = (dose) => (dose > 0 ? `+${dose}` : String(dose).replace("-", "−"));

  /** A token with its probability, and the latter as a bar behind both. */
  const drawToken = (side, [text, joined, probability]) =>
    el(
      "li",
      { class: "next-token", data: { side }, css: { "--share": `${100 * probability}%` } },
      el("span", {}, joined ? el("span", { class: "joined", text: "-" }) : null, word(text)),
      el("span", { class: "next-share", text: format.share(probability) }),
    );

  const drawNext = (example) => {
    const heads = example.doses.map((dose) =>
      el("th", { scope: "col", text: dose ? `dose ${nameDose(dose)}` : "no push" }),
    );
    const rows = ["a", "b"].map((side) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: side.toUpperCase() }),
        example[`next_${side}`].map((tokens) =>
          el("td", {}, el("ol", { class: "next-tokens" }, tokens.map((token) => drawToken(side, token)))),
        ),
      ),
    );
    return el(
      "table",
      { class: "next-words" },
      el("caption", { class: "unseen", text: `What both models say next: a ${example.a}, b ${example.b}` }),
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "model" }), heads)),
      el("tbody", {}, rows),
    );
  };

  const drawFacts = (example) =>
    ["a", "b"].map((side) => {
      const raised = example[`raised_${side}`];
      return el(
        "p",
        { class: "example-facts" },
        el("a", { href: `#${side}=${example[side]}`, data: { side }, text: `${side} ${example[side]}` }),
        " fires on ",
        listWords(example[`top_${side}`]),
        raised.length ? ["; a push raises most ", listWords(raised)] : null,
        ".",
      );
    });

  const drawExample = (example) =>
    el(
      "article",
      { class: "example" },
      el(
        "h4",
        {},
        el("a", { href: `#a=${example.a}&b=${example.b}`, text: `a ${example.a} – b ${example.b}` }),
      ),
      el("p", {
        class: "caption",
        text: `agreement ${format.r(example.odd)}, p ${format.p(example.p)}, q ${format.p(example.q)}`,
      }),
      drawFacts(example),
      el("blockquote", {}, "… ", word(example.text), el("span", { class: "blank", text: " ___" })),
      drawNext(example),
    );

  xmodel.part("steering", {
    async start(section) {
      const place = section.querySelector("#steering-examples");
      if (!place) return;
      try {
        const { examples, note } = await xmodel.load("steering");
        place.removeAttribute("aria-busy");
        place.replaceChildren();
        if (!examples.length) return;
        const many = examples.length > 1 ? `${examples.length} pairs` : "pair";
        place.append(
          el("h3", { text: `What the models say next, pushed along the ${many} of smallest p` }),
          el("p", { class: "caption", text: note }),
          el("div", { class: "examples" }, examples.map(drawExample)),
        );
      } catch (error) {
        xmodel.showFailure(place, error);
      }
    },
  });
})();
