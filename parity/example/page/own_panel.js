"use strict";

/* The learner's own network: what its units do, how its error is measured, how many samples, and its numbers. */
const OwnPanel = (() => {
  const { $, DIGITS, complain, data, figure, forget, model, state } = Page;
  const { html } = Drawing;

  const GROUPS = { i: "input", t: "target", w: "weight", b: "bias", e: "learning rate" };
  const LEADS = Object.fromEntries(Drawing.WEIGHTS.map(({ key, from, to }) => [key, `${from} to ${to}`]));
  const CHOICES = ["hidden", "error", "samples"];

  function described(name) {
    const words =
      { b1: "bias of h1, h2", b2: "bias of o1, o2", eta: "learning rate" }[name] ||
      `${GROUPS[name[0]]}${LEADS[name] ? `, ${LEADS[name]}` : ""}`;
    return name.endsWith(":2") ? `${words}, sample 2` : words;
  }

  function make() {
    for (const name of Object.keys(data.constants)) {
      const input = html("input", {
        id: name,
        inputmode: "text",
        autocomplete: "off",
        autocapitalize: "off",
        spellcheck: "false",
        "aria-describedby": `${name}-message`,
      });
      input.addEventListener("input", () => take(name, input.value));
      const label = html("label", { for: name }, html("b", {}, Words.letters(name)), ` ${described(name)}`);
      const message = html("p", { class: "message", id: `${name}-message` });
      $("fields").append(html("div", { "data-constant": name }, label, input, message));
    }
    for (const choice of CHOICES) {
      for (const [value, words] of data.choices[choice]) $(choice).append(html("option", { value }, words));
      $(choice).addEventListener("change", () => {
        state[choice] = choice === "samples" ? Number($(choice).value) : $(choice).value;
        changed();
      });
    }
  }

  /* Another network: the step may be gone, and what was said is. */
  function changed() {
    forget();
    keepStep();
    Page.draw();
  }

  /* The step that is open stays, under the name that it has in this model, or the first one is opened. */
  function keepStep() {
    const names = [state.step, state.step.replace(/:\d/, ""), state.step.replace(/(@|$)/, ":1$1")];
    const there = names.find((name) => model().byKey.has(name) && Values.isThere(figure(name)));
    state.step = there || model().figures[0].key;
  }

  /* A number that was typed into a field: used if it is one, else the last good one stays. */
  function take(name, text) {
    try {
      Digits.parse(text);
    } catch (error) {
      complain(name, error.message);
      return;
    }
    complain(name, "");
    state.texts = { ...state.texts, [name]: text.trim() };
    changed();
  }

  function takeDigits(text) {
    const n = Number(text);
    if (!/^\s*\d+\s*$/.test(text) || n < DIGITS.least || n > DIGITS.most) {
      const got = `got \u201c${text.trim().slice(0, 20)}\u201d`;
      complain("digits", `Expected a whole number from ${DIGITS.least} to ${DIGITS.most}; ${got}.`);
      return;
    }
    complain("digits", "");
    state.digits = n;
    Page.draw();
  }

  function draw() {
    for (const name of Object.keys(data.constants)) {
      const used = model().constants.includes(name);
      document.querySelector(`[data-constant="${name}"]`).hidden = !used;
      if (document.activeElement !== $(name)) $(name).value = state.texts[name];
    }
    for (const choice of CHOICES) $(choice).value = state[choice];
    if (document.activeElement !== $("digits")) $("digits").value = state.digits;
    $("predict").checked = state.predict;
  }

  function listen() {
    make();
    $("digits").addEventListener("input", () => takeDigits($("digits").value));
    $("reset").addEventListener("click", () => {
      const { hidden, error, samples } = data.article;
      Object.assign(state, { hidden, error, samples, texts: { ...data.constants } });
      for (const name of Object.keys(data.constants)) complain(name, "");
      changed();
    });
  }

  return { draw, keepStep, listen };
})();
