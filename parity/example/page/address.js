"use strict";

/* The page's address, which spells its state after the #. */
const Address = (() => {
  const { $, DIGITS, complain, data, recipeKey, state, updates } = Page;

  function spell() {
    const query = new URLSearchParams();
    if (state.k) query.set("at", updates());
    if (recipeKey() !== data.recipes[0].key) query.set("recipe", recipeKey());
    for (const choice of Object.keys(data.choices))
      if (state[choice] !== data.article[choice]) query.set(choice, state[choice]);
    if (state.step !== Page.initial().step) query.set("step", state.step);
    if (state.digits !== 9) query.set("digits", state.digits);
    if (state.predict) query.set("predict", 1);
    for (const [name, text] of Object.entries(data.constants))
      if (state.texts[name] !== text) query.set(name, state.texts[name]);
    if (state.checked) query.set("yours", state.yours);
    return query.toString().replace(/%2F/g, "/").replace(/%40/g, "@").replace(/%3A/g, ":").replace(/%7C/g, "|");
  }

  const choice = (name) => (text) => {
    const found = data.choices[name].find(([value]) => String(value) === text);
    if (!found) throw new Error(`expected one of ${data.choices[name].map(([value]) => value).join(", ")}`);
    return { [name]: found[0] };
  };

  const READERS = {
    at(text) {
      const n = /^\d+$/.test(text) ? Number(text) : Infinity;
      if (n > data.updates) throw new Error(`expected a number of updates from 0 to ${data.updates}`);
      const k = Curve.nearest(Curve.place(n, data.updates), data.positions);
      const exactly = data.positions.indexOf(n);
      return { k: exactly < 0 ? k : exactly, nearby: exactly < 0 ? n : undefined };
    },
    recipe(text) {
      if (!data.recipes.some(({ key }) => key === text))
        throw new Error(`expected one of ${data.recipes.map(({ key }) => key).join(", ")}`);
      const [order, biases] = text.split("/");
      return { order, biases };
    },
    hidden: choice("hidden"),
    error: choice("error"),
    samples: choice("samples"),
    step(text) {
      if (!Object.values(data.models).some(({ figures }) => figures.some(({ key }) => key === text)))
        throw new Error("expected the name of a figure, such as dE/dw5");
      return { step: text };
    },
    digits(text) {
      if (!/^\d+$/.test(text) || text < DIGITS.least || text > DIGITS.most)
        throw new Error(`expected a whole number from ${DIGITS.least} to ${DIGITS.most}`);
      return { digits: Number(text) };
    },
    predict(text) {
      if (text !== "0" && text !== "1") throw new Error("expected 0 or 1");
      return { predict: text === "1" };
    },
    yours: (text) => ({ yours: text.slice(0, 200), checked: true }),
  };

  /* The state that a fragment spells; what it doesn't say, or says badly, stays as it is. */
  function read(fragment) {
    const messages = [];
    const texts = { ...data.constants };
    const found = {};
    let query = new URLSearchParams();
    try {
      decodeURIComponent(fragment);
      query = new URLSearchParams(fragment);
    } catch {
      messages.push("it is mangled");
    }
    if (messages.length === 0) Object.assign(found, Page.initial(), { texts });
    for (const [name, text] of query) {
      try {
        if (Object.hasOwn(data.constants, name)) {
          Digits.parse(text);
          texts[name] = text.trim();
        } else if (Object.hasOwn(READERS, name)) Object.assign(found, READERS[name](text));
        else throw new Error("no such setting");
      } catch (error) {
        messages.push(`${name || "\u201c\u201d"}=${text.slice(0, 30)}: ${error.message}`);
        if (Object.hasOwn(data.constants, name)) texts[name] = state.texts[name];
        else if (name === "at") found.k = state.k;
        else if (name === "recipe") Object.assign(found, { order: state.order, biases: state.biases });
        else if (Object.hasOwn(found, name)) found[name] = state[name];
      }
    }
    const { nearby } = found;
    delete found.nearby;
    Object.assign(state, found);
    state.revealed.clear();
    if (state.checked) state.revealed.add(state.step);
    OwnPanel.keepStep();
    for (const name of Object.keys(data.constants)) complain(name, "");
    complain("digits", "");
    say(messages, nearby);
  }

  function say(messages, nearby) {
    const words = [];
    if (messages.length)
      words.push(
        `Not everything in this page\u2019s address could be read; the last good values stay. ${messages.join("; ")}.`,
      );
    if (nearby !== undefined)
      words.push(
        `This page does not hold the round after ${Words.count(nearby)}; it shows the one nearest to it, after ${Words.thousands(updates())}.`,
      );
    $("address-message").hidden = !words.length;
    $("address-message").textContent = words.join(" ");
  }

  let spelledLast = null;
  let writing = 0;
  function write() {
    const fragment = spell();
    if (fragment === spelledLast) return;
    spelledLast = fragment;
    clearTimeout(writing);
    // Browsers refuse an address that changes too often, as it would under a dragged slider.
    writing = setTimeout(() => replace(fragment), 150);
  }
  function replace(fragment) {
    try {
      history.replaceState(null, "", `#${fragment}`);
    } catch {
      // Some viewers forbid it; the page works on without an address to share.
    }
  }

  function listen() {
    window.addEventListener("hashchange", (event) => {
      // What the reader asked for, even if the page has written its own address since.
      const fragment = new URL(event.newURL).hash.slice(1);
      if (fragment === spelledLast) return;
      clearTimeout(writing);
      read(fragment);
      Page.draw();
    });
  }

  return { listen, read, write };
})();
