"use strict";

/* The network, the error's curve and the slider, as the state has them. */
const PicturePanel = (() => {
  const { $, DIGITS, data, figure, isOwn, last, model, recipeKey, sampled, shownUpdates, state } = Page;
  const { count, thousands } = Words;
  const { digits, isHidden, shown } = Spelling;
  // What the slider's range counts: thousandths of the axis.
  const WHOLE = 1000;

  const narrow = window.matchMedia("(max-width: 40rem)");

  /* A figure or constant of the drawn network as a text. */
  function say(key, most) {
    const name = sampled(key);
    if (!model().byKey.has(name)) return digits(Values.drawnConstant(name), most);
    const open = figure(state.step);
    // While a figure is to be predicted, the network after it stays hidden.
    if (isHidden(open.section === "after" && open.updates ? state.step : name)) return "?";
    return digits(Values.drawnValue(name), most);
  }

  function drawNetwork() {
    const most = Math.min(state.digits, narrow.matches ? DIGITS.small : DIGITS.drawn);
    const units = ["h1", "h2", "o1", "o2"].map((u) => `out ${u} ${say(`out_${u}`)}`).join(", ");
    const sample = (state.step.match(/:(\d)/) || [0, 1])[1];
    const batch = state.samples > 1 ? `, sample ${sample} of ${state.samples}` : "";
    const at = `after ${count(shownUpdates())}${batch}`;
    const drawn = Drawing.network({
      tall: narrow.matches,
      now: Drawing.part(state.step),
      used: new Set(Values.operands(figure(state.step)).map(Drawing.part)),
      title: `The network ${at}: ${units}, error ${say("E")}. All figures are in the table below.`,
      say: (key) => say(key, most),
      name: sampled,
    });
    $("network").replaceChildren(drawn);
    $("place").textContent = at;
    $("source").textContent = isOwn()
      ? "Your own numbers, computed in binary64 by this page. Under each weight, \u2202 is its gradient."
      : "Certified values. Under each weight, \u2202 is its gradient. Choose a part to go to its step.";
  }

  // Kept, because asking for it lays out the page.
  let curveWidth = 0;

  function drawCurve() {
    if (isOwn() && !Values.wholeTraining()) return;
    const n = shownUpdates();
    const others = isOwn() ? [] : data.recipes.filter(({ key }) => key !== recipeKey());
    const E = data.models[data.article.key].figures.find(({ key }) => key === "E");
    const series = (key) => data.positions.map((_, k) => Values.certified.float(key, E, k));
    const mine = isOwn() ? Values.wholeTraining().errors : series(recipeKey());
    const error = Values.drawnValue("E");
    $("curve").replaceChildren(
      Curve.draw({
        width: Math.max(curveWidth, 200),
        positions: data.positions,
        errors: [...others.map(({ key }) => series(key)), mine],
        n,
        dot: say("E") === "?" || typeof error !== "bigint" ? null : Digits.nearest(error),
        title: `The error against the number of updates, now ${say("E")}`,
      }),
    );
    $("curve-words").textContent =
      `E against the number of updates, both axes logarithmic; E is ${say("E")} here.` +
      (isOwn() ? "" : " The thin lines are the other five recipes.");
  }

  function drawSlider() {
    const n = shownUpdates();
    $("at").value = Math.round(WHOLE * Curve.place(n, data.updates));
    $("at").setAttribute("aria-valuetext", `${count(n)}, error ${say("E")}`);
    $("at-words").textContent = thousands(n);
  }

  /* The round after a number of updates: what was open of the network after training stays, for that number. */
  function slideTo(k) {
    const open = figure(state.step);
    if (open.section === "after") state.step = state.step.split("@")[0];
    state.k = Math.max(0, Math.min(last, k));
    Page.forget();
    state.yours = "";
    if (!Values.isThere(figure(state.step))) state.step = model().figures[0].key;
    Page.draw();
  }

  function listen() {
    const positions = data.positions;
    /* The place of the number that is shown, or of the one before it. */
    const now = () => positions.findLastIndex((n) => n <= shownUpdates());
    const isRound = (n) => n === 0 || /^10*$/.test(String(n)) || n === data.updates / 2;
    Object.assign($("at"), { min: 0, max: WHOLE, step: 1 });
    $("at").addEventListener("input", () => slideTo(Curve.nearest(Number($("at").value) / WHOLE, positions)));
    $("at").addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      const leap = { PageUp: 1, PageDown: -1 }[event.key];
      if (!by && !leap) return;
      event.preventDefault();
      let k = now() + (by || leap);
      while (leap && k > 0 && k < last && !isRound(positions[k])) k += leap;
      slideTo(k);
    });
    $("curve").addEventListener("click", (event) => {
      const tick = event.target.closest("[data-at]");
      if (tick) slideTo(positions.indexOf(Number(tick.dataset.at)));
    });
    narrow.addEventListener("change", () => Page.draw());
    new ResizeObserver(([{ contentRect }]) => {
      curveWidth = contentRect.width;
      drawCurve();
    }).observe($("curve"));
  }

  return {
    draw() {
      drawNetwork();
      drawCurve();
      drawSlider();
    },
    listen,
    slideTo,
  };
})();
