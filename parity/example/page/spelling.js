"use strict";

/* Figures as the page shows them: to the digits that were asked for, hidden where the reader is to predict. */
const Spelling = (() => {
  const { DIGITS, figure, isOwn, model, state } = Page;
  const { html } = Drawing;

  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+(?=e|$)/, "") : text);

  /* That many digits, or fewer where the number ends before. */
  function digits(number, most = state.digits) {
    if (number === undefined) return "\u2026";
    if (number === null) return "not finite";
    const shown = Math.min(most, isOwn() ? DIGITS.own : DIGITS.most);
    const text = Digits.significant(number, shown);
    const whole = bare(Digits.significant(number, isOwn() ? 16 : 30));
    return number === 0n || whole.replace(/e.*|[-.]/g, "").replace(/^0+/, "").length <= shown ? bare(text) : text;
  }

  const isHidden = (key) =>
    state.predict &&
    model().byKey.has(key) &&
    !state.revealed.has(key) &&
    figure(key).order >= figure(state.step).order;
  const shown = (key, most) => (isHidden(key) ? "?" : digits(Values.value(key), most));
  const bracketed = (text) => (text.startsWith("-") ? `(${text.replace("-", "\u2212")})` : text);

  /* A figure's formula with its operands' numbers. */
  const inNumbers = (found) =>
    Words.formula(Values.templateOf(found), (key) =>
      isHidden(key) ? "?" : bracketed(digits(Values.operand(key, found))),
    );

  const marked = (differ) => html("mark", { title: "from here on it differs" }, differ);

  /* Does something again only if what it depends on has changed. */
  const done = new Map();
  function whenever(name, key, make) {
    if (done.get(name) === key) return;
    done.set(name, key);
    make();
  }

  return { digits, inNumbers, isHidden, marked, shown, whenever };
})();
