"use strict";

/* One step: its formula in letters and in numbers, and the way to the steps before and after it. */
const StepPanel = (() => {
  const { $, figure, go, model, spelled, state } = Page;
  const { html } = Drawing;
  const { formula, lettered } = Words;
  const { digits, inNumbers, isHidden, whenever } = Spelling;

  function drawChoice(present) {
    whenever("options", `${model().key} ${present.length}`, () => {
      const groups = new Map();
      for (const found of present) {
        if (!groups.has(found.section))
          groups.set(found.section, html("optgroup", { label: model().sections[found.section] }));
        groups.get(found.section).append(html("option", { value: found.key }, spelled(found.key)));
      }
      $("step").replaceChildren(...groups.values());
    });
    for (const option of $("step").options)
      if (figure(option.value).updates === 1) option.textContent = spelled(option.value);
    $("step").value = state.step;
  }

  function notes() {
    const found = [];
    if (isHidden(state.step)) found.push("Hidden until you have entered your figure.");
    const bug = state.order === "sequential";
    if (bug && /^dE_o\d\/dout_h|\|o/.test(state.step))
      found.push("This recipe\u2019s bug: it multiplies by the weight that has already been updated.");
    if (bug && /^dnet_o\d\/dout_h/.test(state.step))
      found.push("This recipe does not use this original weight, but the updated one: the bug.");
    if (state.biases === "layer" && /^dE\/db/.test(state.step))
      found.push("The bias is shared by the layer: this is the sum of both units\u2019 deltas.");
    return found;
  }

  function draw() {
    const present = Values.steps();
    drawChoice(present);
    const at = present.findIndex(({ key }) => key === state.step);
    $("previous").disabled = at === 0;
    $("next").disabled = at === present.length - 1;
    const open = figure(state.step);
    $("section").textContent = `${model().sections[open.section]} \u00b7 figure ${at + 1} of ${present.length}`;
    $("explain").textContent = Words.explained(state.step, state);
    const rows = [html("dt", {}, ...lettered(spelled(state.step)))];
    if (open.template) {
      rows.push(html("dd", {}, "= ", ...lettered(formula(Values.templateOf(open), spelled))));
      if (!Values.isName(open)) rows.push(html("dd", {}, `= ${inNumbers(open)}`));
    }
    const value = isHidden(state.step) ? "?" : digits(Values.value(state.step));
    rows.push(html("dd", { class: "value" }, `= ${value}`));
    rows.push(...notes().map((note) => html("dd", { class: "note" }, note)));
    $("formula").replaceChildren(...rows);
  }

  function walk(by) {
    const present = Values.steps();
    const at = present.findIndex(({ key }) => key === state.step) + by;
    if (present[at]) go(present[at].key);
  }

  function listen() {
    $("previous").addEventListener("click", () => walk(-1));
    $("next").addEventListener("click", () => walk(1));
    $("step").addEventListener("change", () => go($("step").value));
    $("predict").addEventListener("change", () => {
      state.predict = $("predict").checked;
      state.revealed.clear();
      Page.draw();
    });
    document.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (by) walk(by);
    });
  }

  return { draw, listen };
})();
