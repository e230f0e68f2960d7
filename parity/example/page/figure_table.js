"use strict";

/* The table of all figures. */
const FigureTable = (() => {
  const { $, figure, go, isOwn, model, spelled, state, updates } = Page;
  const { html } = Drawing;
  const { count, formula, lettered } = Words;
  const { inNumbers, isHidden, marked, shown, whenever } = Spelling;

  // Of each row what changes: its parts, and what they say.
  const rows = new Map();

  function make(present) {
    const table = $("figures");
    for (const body of [...table.tBodies]) body.remove();
    rows.clear();
    let body = null;
    let section = "";
    for (const found of present) {
      if (found.section !== section) {
        section = found.section;
        const title = html("th", { colspan: 4, scope: "rowgroup" }, model().sections[section]);
        body = table.appendChild(html("tbody", {}, html("tr", { class: "section" }, title)));
      }
      const letters = found.template ? lettered(formula(Values.templateOf(found), spelled)) : [];
      const parts = {
        name: html("button", { type: "button", "data-step": found.key }),
        numbers: html("div"),
        value: html("td", { class: "number", "data-figure": found.key }),
        binary: html("td", { class: "binary" }),
      };
      const row = body.appendChild(
        html(
          "tr",
          {},
          html("th", { scope: "row" }, parts.name),
          html("td", { class: "formulas" }, html("div", {}, ...letters), parts.numbers),
          parts.value,
          parts.binary,
        ),
      );
      rows.set(found.key, { row, parts, said: {} });
    }
  }

  /* A figure as this page computes it, split where it leaves the certified one. */
  function binary(found) {
    if (isHidden(found.key)) return ["?"];
    const number = Values.float(found);
    if (number === undefined) return ["\u2026"];
    const whole = Digits.exact(number);
    if (whole === null) return ["not finite"];
    const text = Digits.significant(whole, 17);
    const kept = Values.certifiedFigure(found);
    return kept === null ? [text] : Digits.mark(text, Digits.significant(kept, 17));
  }

  function draw() {
    const present = Values.steps();
    const how = `${model().key} ${present.length} ${state.biases === "layer"} ${state.order}`;
    whenever("table", how, () => make(present));
    for (const found of present) {
      const { row, parts, said: before } = rows.get(found.key);
      const now = {
        numbers: found.template && !Values.isName(found) ? [inNumbers(found)] : [],
        value: [shown(found.key)],
        binary: binary(found),
      };
      const name = spelled(found.key);
      if (before.name !== name) parts.name.replaceChildren(...lettered(name));
      before.name = name;
      for (const [part, texts] of Object.entries(now)) {
        if (before[part] === texts.join("|")) continue;
        before[part] = texts.join("|");
        const [agree = "", differ = ""] = texts;
        parts[part].replaceChildren(agree, ...(differ ? [marked(differ)] : []));
      }
      if (found.key === state.step) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    $("table-place").textContent = `of the round after ${count(updates())}`;
    $("figures-value").textContent = isOwn() ? "Value" : "Certified";
    $("table-words").textContent = isOwn()
      ? "Your own numbers: computed in binary64 by this page, whose arithmetic is tested against certified values; up to 17 digits."
      : "Certified: the true figure, rounded to the digits shown. Beside it what this page\u2019s arithmetic makes of it, in 17 digits; those from the first that differs from the truth are underlined.";
  }

  function listen() {
    $("figures").addEventListener("click", (event) => {
      const target = event.target.closest("[data-step]");
      if (!target || !figure(target.dataset.step)) return;
      go(target.dataset.step);
      Page.show("step-panel");
    });
  }

  return { draw, listen };
})();
