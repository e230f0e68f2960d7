"use strict";

/* What happened to the article's numbers: the recipes, and which printed figures each of them yields. */
const RecipePanel = (() => {
  const { $, data, figure, isOwn, recipe, recipeKey, state } = Page;
  const { html } = Drawing;
  const { count, letters, lettered } = Words;
  const { digits, isHidden, shown, whenever } = Spelling;
  const printedFigure = (key) => data.models[data.article.key].figures.find((found) => found.key === key);

  /* Under the recipe of the page: whether it yields a printed figure, and in words. */
  function light(published) {
    const n = printedFigure(published.key).updates;
    const mine = published.found.filter((f) => f.recipe === recipeKey());
    if (mine.some((f) => f.first <= n && n <= f.last)) return [true, "\u25cf yields it"];
    const shorter = published.misprints.find((m) => m.recipe === recipeKey());
    if (shorter) return [false, `\u25cb only one digit shorter: ${shorter.text}`];
    if (published.says !== "right" && mine.length) return [false, `\u25cb only after ${count(mine[0].first)}`];
    return [false, "\u2013 does not"];
  }

  function drawPublished() {
    for (const input of document.querySelectorAll("#recipes input")) input.checked = state[input.name] === input.value;
    let lit = 0;
    const bodies = { published: [], original: [] };
    for (const p of data.published) {
      const [on, words] = light(p);
      lit += on;
      const { updates } = printedFigure(p.key);
      const name = updates ? `${letters(p.key)} after ${count(updates)}` : letters(p.key);
      const from = p.source === "copies" ? " (other copies)" : "";
      bodies[p.source === "original" ? "original" : "published"].push(
        html(
          "tr",
          { class: on ? "lit" : "dim" },
          html("th", { scope: "row" }, ...lettered(name), from),
          html("td", {}, p.text),
          html("td", {}, words),
        ),
      );
    }
    for (const [id, rows] of Object.entries(bodies)) $(id).tBodies[0].replaceChildren(...rows);
    const { words } = data.recipes.find(({ key }) => key === recipeKey());
    $("lit").textContent =
      `The recipe \u201c${words}\u201d yields ${lit} of the ${data.published.length} printed figures.`;
    $("original-summary").textContent = `The ${bodies.original.length} figures of the original`;
    $("original-caption").textContent = data.sources.original;
  }

  function draw() {
    whenever("recipes", recipeKey(), drawPublished);
    const start = isOwn()
      ? Digits.exact(Values.judge(true).value("E@1", recipe()))
      : Values.certified.exact(recipeKey(), figure("E@1"), 1);
    const rows = [
      ["E after 1 update", isHidden("E@1") && state.k === 0 ? "?" : digits(start)],
      [`E after ${count(data.updates)}`, shown(`E@${data.updates}`)],
    ];
    $("errors").replaceChildren(...rows.flatMap(([name, text]) => [html("dt", {}, name), html("dd", {}, text)]));
  }

  function listen() {
    $("recipes").addEventListener("change", (event) => {
      if (!Object.hasOwn(state, event.target.name)) return;
      state[event.target.name] = event.target.value;
      Page.forget();
      Page.draw();
    });
  }

  return { draw, listen };
})();
