"use strict";

/*
 * The page's data and its state, and what follows from them alone. `draw` shows all of it; the last script gives it its
 * meaning.
 */
const Page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const ORDERS = ["simultaneous", "sequential"];
  const BIASES = ["frozen", "unit", "layer"];
  const DIGITS = { least: 2, most: 32, own: 17, drawn: 9, small: 5 };
  const last = data.positions.length - 1;

  /* What the page shows when nothing is said. */
  const initial = () => ({
    k: 0,
    order: ORDERS[0],
    biases: BIASES[0],
    hidden: data.article.hidden,
    error: data.article.error,
    samples: data.article.samples,
    step: data.models[data.article.key].figures[0].key,
    digits: 9,
    predict: false,
    texts: { ...data.constants },
    yours: "",
    checked: false,
    answered: false,
  });

  const state = { ...initial(), revealed: new Set() };

  const recipe = () => ({ order: state.order, biases: state.biases });
  const recipeKey = () => `${state.order}/${state.biases}`;

  /* The kind of network: its figures in their order and by name, and the names of its constants. */
  const models = new Map();
  function model() {
    const key = `${state.hidden}/${state.error}/${state.samples}`;
    if (!models.has(key)) {
      const { figures, sections, constants } = data.models[key];
      const numbered = figures.map((figure, order) => ({ ...figure, order }));
      models.set(key, {
        key,
        sections,
        constants,
        figures: numbered,
        byKey: new Map(numbered.map((figure) => [figure.key, figure])),
        isArticle: key === data.article.key,
      });
    }
    return models.get(key);
  }
  const figure = (key) => model().byKey.get(key);

  /* The name under which a figure or constant stands in this model: of the sample that is shown, if there are two. */
  function sampled(key) {
    const { byKey } = model();
    if (state.samples === 1 || byKey.has(key)) return key;
    const sample = (state.step.match(/:(\d)/) || [0, 1])[1];
    if (/^[it]\d$/.test(key)) return Number(sample) > 1 ? `${key}:${sample}` : key;
    return byKey.has(`${key}:${sample}`) ? `${key}:${sample}` : key;
  }

  /* Of the typed numbers, which are replaced as a whole: whether they are not the article's, and a key for them. */
  let typedNow = { texts: null, model: "" };
  function typed() {
    const { texts } = state;
    const { key, constants, isArticle } = model();
    if (typedNow.texts !== texts || typedNow.model !== key) {
      const differs = (name) => Digits.parse(texts[name]).value !== Number(data.constants[name]);
      const used = JSON.stringify(constants.map((name) => texts[name]));
      typedNow = { texts, model: key, key: `${key} ${used}`, is: !isArticle || constants.some(differs) };
    }
    return typedNow;
  }
  const isOwn = () => typed().is;
  const ownKey = () => typed().key;

  /* The number of updates before the round that is worked out; and after how many of them a figure stands. */
  const updates = () => data.positions[state.k];
  const reached = ({ updates: n }, from = updates()) => (n < 2 ? from + n : n);
  /* The number of updates of the network that is drawn: what stands after training is shown as it is then. */
  const shownUpdates = () => (figure(state.step).section === "after" ? reached(figure(state.step)) : updates());

  /* A figure's name as a text; after an update with the number of updates, counted on from those before the round. */
  function spelled(key, from = updates()) {
    const found = figure(key);
    const name = Words.letters(key);
    return found && found.updates ? `${name} after ${Words.count(reached(found, from))}` : name;
  }

  const cache = new Map();
  function cached(key, make) {
    if (!cache.has(key)) {
      if (cache.size > 60) cache.clear();
      cache.set(key, make());
    }
    return cache.get(key);
  }

  /* Opens a step; what was said of another one is gone. */
  function go(key) {
    Object.assign(state, { step: key, yours: "", checked: false, answered: false });
    Page.draw();
  }

  /* What was said of a figure holds no more. */
  function forget() {
    Object.assign(state, { checked: false, answered: false });
    state.revealed.clear();
  }

  /* Says what is wrong with a field, or that nothing is. */
  function complain(id, message) {
    $(`${id}-message`).textContent = message;
    $(id).setAttribute("aria-invalid", String(Boolean(message)));
  }

  return {
    $,
    BIASES,
    DIGITS,
    ORDERS,
    cache,
    cached,
    complain,
    data,
    draw: () => {},
    figure,
    forget,
    go,
    initial,
    isOwn,
    last,
    model,
    ownKey,
    reached,
    recipe,
    recipeKey,
    sampled,
    shownUpdates,
    spelled,
    state,
    updates,
  };
})();
