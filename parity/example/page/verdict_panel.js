"use strict";

/* What is said of the figure that the reader has worked out. */
const VerdictPanel = (() => {
  const { $, complain, data, figure, isOwn, spelled, state, updates } = Page;
  const { html } = Drawing;
  const { decimals } = Words;
  const { marked } = Spelling;

  /* The judgement, and the other places that the figure has: { ...judgement, places, from }. */
  function said(typed) {
    const late = figure(state.step).updates > 1;
    const here = Values.judge(late).recognise(state.step, typed);
    const from = late ? 0 : updates();
    const settled = ["right", "cut", "carried"].includes(here.kind) || here.mistakes.length || here.places.length;
    if (settled || from === 0 || typed.digits < Judging.TELLING) return { ...here, from };
    // Perhaps it is a figure of the first round.
    const places = Values.judge(true).places(typed);
    return { ...here, kind: places.length ? "elsewhere" : here.kind, places, from: 0 };
  }

  /* Yours and the truth, the digits that differ marked. */
  function compared(found, typed) {
    const more = Math.min(typed.places + 3, 60);
    const [agree, differ] = Digits.mark(
      Digits.places(typed.exact, typed.places),
      Digits.places(found.truth, typed.places),
    );
    const row = (name, ...cell) =>
      html("tr", {}, html("th", { scope: "row" }, name), html("td", {}, ...cell.filter(Boolean)));
    const truth = found.certified ? Digits.places(found.truth, more) : Digits.significant(found.truth, 17);
    return html(
      "table",
      { class: "digits" },
      html(
        "tbody",
        {},
        row("yours", agree, differ && marked(differ)),
        row(found.certified ? "certified" : "in binary64", truth),
      ),
    );
  }

  /* One of the other places, in words, with the way there. */
  function located(place, typed, from) {
    const name = spelled(place.figure, from);
    const words = {
      right: () => `It is the right figure of another step: ${name}${place.cut ? ", cut off instead of rounded" : ""}.`,
      printed: () => `It is printed as ${name} (${data.sources[place.published.source]}), and is ${Words.PRINTED[place.published.says]}. Yielded by: ${place.published.by}.`,
      mistake: () => `It is ${name}, with a mistake. ${place.mistake.answer}`,
    }[place.kind]();
    const there = html("button", { type: "button" }, "Go to that step");
    there.addEventListener("click", () => {
      const k = figure(place.figure).updates > 1 ? state.k : data.positions.indexOf(from);
      Object.assign(state, { k, step: place.figure, yours: typed.text, checked: true, answered: false });
      state.revealed.add(place.figure);
      Page.draw();
    });
    return html("p", { "data-place": place.figure }, words, " ", there);
  }

  /* Of a right figure, what is printed instead of it; of any other, that it is what is printed. */
  function printed(kind, typed) {
    if (isOwn() || updates() !== 0) return [];
    const wrong = data.published.filter((p) => p.key === state.step && p.says !== "right");
    if (kind === "right")
      return wrong.map((p) => `Where ${p.text} is printed, that is ${Words.PRINTED[p.says]}: yours is right.`);
    const same = wrong.find((p) => Digits.parse(p.text).exact === typed.exact);
    if (!same) return [];
    return [
      `This figure is in print (${data.sources[same.source]}): ${Words.PRINTED[same.says]}. Yielded by: ${same.by}.`,
    ];
  }

  function hint(answers) {
    const hints = [...new Set(answers.map((answer) => answer.hint))];
    return html("p", {}, html("strong", {}, "Hint: "), hints.slice(0, 3).join(" "));
  }

  function answerButton(kind) {
    const words = kind === "mistake" ? "Show the answer" : "What else would explain it?";
    const button = html("button", { type: "button", id: "answer" }, words);
    button.addEventListener("click", () => {
      state.answered = true;
      Page.draw();
      $("answers").focus();
    });
    return button;
  }

  function answered(answers) {
    const how = ({ carried, cut }) =>
      carried < Infinity
        ? `with ${decimals(carried)} carried on the way`
        : cut
          ? "to every digit that you gave, cut off"
          : "to every digit that you gave";
    return html(
      "ul",
      { id: "answers", tabindex: "-1", "aria-label": "Known mistakes that explain it" },
      ...answers.map((mistake) =>
        html(
          "li",
          { "data-mistake": mistake.key },
          mistake.answer,
          " ",
          html("span", { class: "legend" }, `(${how(mistake)})`),
        ),
      ),
    );
  }

  function draw() {
    const box = $("verdict");
    $("yours").value = state.yours;
    complain("yours", "");
    box.className = "";
    box.replaceChildren();
    if (!state.checked) return;
    let typed;
    try {
      typed = Digits.parse(state.yours);
    } catch (error) {
      complain("yours", error.message);
      return;
    }
    const found = said(typed);
    box.className = found.kind;
    box.append(html("h3", {}, Words.HEADINGS[found.kind]), compared(found, typed));
    box.append(...found.places.map((place) => located(place, typed, found.from)));
    if (found.kind === "elsewhere") return;
    box.append(...Words.verdict(found, typed.places).map((text) => html("p", {}, text)));
    const inPrint = printed(found.kind, typed).map((text) => html("p", {}, text));
    const answers = found.mistakes;
    if (!answers.length) box.append(...inPrint);
    else if (state.answered) box.append(answered(answers), ...inPrint);
    else box.append(...(found.kind === "mistake" ? [hint(answers)] : []), answerButton(found.kind));
  }

  function listen() {
    $("check").addEventListener("submit", (event) => {
      event.preventDefault();
      Object.assign(state, { yours: $("yours").value, checked: true, answered: false });
      try {
        Digits.parse(state.yours);
        state.revealed.add(state.step);
      } catch {
        // Nothing is revealed for what is no figure; the verdict's place says why.
      }
      Page.draw();
    });
  }

  return { draw, listen };
})();
