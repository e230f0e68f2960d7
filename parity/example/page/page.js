"use strict";

/*
 * The behaviour of the page. Its state is one object, which the address's fragment spells; `draw` shows it. Figures are
 * integers times 10^-PLACES, as `Backprop.exact` makes them, so that digits are digits.
 */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const B = Backprop;
  const { html } = Drawing;
  const { count, decimals, formula, lettered, thousands } = Words;
  const $ = (id) => document.getElementById(id);
  const ONE = 10n ** BigInt(B.PLACES);
  const FIGURES = new Map(data.figures.map((figure, order) => [figure.key, { ...figure, order }]));
  const ORDERS = ["simultaneous", "sequential"];
  const BIASES = ["frozen", "unit", "layer"];
  const DIGITS = { least: 2, most: 32, own: 17, drawn: 9, small: 5 };
  const last = data.positions.length - 1;

  /* Names and formulas --------------------------------------------------------------------------------------------- */

  /* A figure's name as a text. Those after an update carry the number of updates that the slider implies. */
  function spelled(key) {
    const figure = FIGURES.get(key);
    const name = key
      .replace(/@.*/, "")
      .replace(/(^|\/)d/g, "$1\u2202")
      .replace("eta", "\u03b7");
    return figure && figure.updates ? `${name} after ${count(reached(figure))}` : name;
  }

  /* A figure's formula: that of the example, but for a bias that a layer shares, which sums its units' gradients. */
  const templateOf = ({ key, template }) =>
    state.biases === "layer" && key.startsWith("dE/db_") ? `{dE/dnet_${key[6]}1} + {dE/dnet_${key[6]}2}` : template;

  const operands = (figure) => [...templateOf(figure).matchAll(/\{(.*?)\}/g)].map((found) => found[1]);
  const isName = (figure) => templateOf(figure) === `{${operands(figure)[0]}}`;

  /* Where figures come from ---------------------------------------------------------------------------------------- */

  /* The certified values, decoded once. */
  const certified = (() => {
    const bytes = Uint8Array.from(atob(data.numbers), (c) => c.charCodeAt(0));
    const numbers = new DataView(bytes.buffer);
    const rows = data.positions.length;
    const number = (column, part, k) => numbers.getFloat64(8 * ((2 * column + part) * rows + k), true);
    const column = (recipe, tensor, index) => index.reduce((value, k) => value[k], data.columns[recipe][tensor]);
    return {
      exact: (recipe, { tensor, index }, k) => {
        const at = column(recipe, tensor, index);
        return B.exact(number(at, 0, k)) + B.exact(number(at, 1, k));
      },
      error: (recipe, k) => number(column(recipe, "E", []), 0, k),
      net(recipe, k) {
        const all = (value) => (Array.isArray(value) ? value.map(all) : number(value, 0, k));
        const tensors = data.columns[recipe];
        const layer = (place) => ({ weight: all(tensors[`${place}.weight`]), bias: all(tensors[`${place}.bias`]) });
        return {
          input: all(tensors.input),
          target: all(tensors.target),
          rate: Number(data.constants.eta),
          hidden: layer(0),
          output: layer(2),
        };
      },
    };
  })();

  /* The network of typed numbers. */
  function typedNet(texts) {
    const v = Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, B.parse(text).value]));
    return {
      input: [v.i1, v.i2],
      target: [v.t1, v.t2],
      rate: v.eta,
      hidden: {
        weight: [
          [v.w1, v.w2],
          [v.w3, v.w4],
        ],
        bias: [v.b1, v.b1],
      },
      output: {
        weight: [
          [v.w5, v.w6],
          [v.w7, v.w8],
        ],
        bias: [v.b2, v.b2],
      },
    };
  }

  /* A training in binary64 from a network: at each of the positions the network and its error. */
  function training(net, recipe) {
    const nets = [];
    const places = new Set(data.positions);
    const end = B.train(net, recipe, data.updates, "", (n, at) => places.has(n) && nets.push(at));
    return { nets, end, errors: nets.map((at) => B.round(B.FLOATS, at, recipe).figures.E) };
  }

  /* State ---------------------------------------------------------------------------------------------------------- */

  const state = {
    k: 0,
    order: "simultaneous",
    biases: "frozen",
    step: data.figures[0].key,
    digits: 9,
    predict: false,
    texts: { ...data.constants },
    yours: "",
    checked: false,
    answered: false,
    revealed: new Set(),
  };

  const recipe = () => ({ order: state.order, biases: state.biases });
  const recipeKey = () => `${state.order}/${state.biases}`;

  /* Of the typed numbers, which are replaced as a whole: whether they are not the article's, and a key for what follows. */
  let own = { texts: null };
  function typed() {
    const { texts } = state;
    if (own.texts !== texts) {
      const differs = ([name, text]) => B.parse(texts[name]).value !== Number(text);
      own = { texts, key: JSON.stringify(texts), is: Object.entries(data.constants).some(differs) };
    }
    return own;
  }
  const isOwn = () => typed().is;
  const ownKey = () => typed().key;

  const updates = () => data.positions[state.k];
  /* After how many updates a figure stands: that of the round at the slider's place, of what follows it, or of the end. */
  const reached = (figure) => (figure.updates < 2 ? updates() + figure.updates : figure.updates);

  const cache = new Map();
  function cached(key, make) {
    if (!cache.has(key)) {
      if (cache.size > 40) cache.clear();
      cache.set(key, make());
    }
    return cache.get(key);
  }
  const ownTraining = () => cached(trainingKey(), () => training(typedNet(state.texts), recipe()));

  function netNow() {
    if (!isOwn()) return certified.net(recipeKey(), state.k);
    return state.k ? ownTraining().nets[state.k] : typedNet(state.texts);
  }

  /* The round at the slider's place and the next one, in binary64. */
  const floats = () =>
    cached(`floats ${ownKey()} ${recipeKey()} ${state.k}`, () => {
      const first = B.round(B.FLOATS, netNow(), recipe());
      return [first.figures, B.round(B.FLOATS, first.next, recipe()).figures];
    });

  function float(figure) {
    if (figure.updates < 2) return B.pick(floats()[figure.updates], figure);
    const { end } = wholeTraining() || {};
    return end ? B.pick(B.round(B.FLOATS, end, recipe()).figures, figure) : null;
  }

  /*
   * All updates in binary64, or null: they may wait until the page has shown what it knows at once. Those of the example
   * are made more than once: by the time that numbers are typed, the browser has then compiled the engine.
   */
  let trained = false;
  const trainingKey = () => `training ${ownKey()} ${recipeKey()}`;
  const wholeTraining = () => cache.get(trainingKey()) || null;
  let waiting = 0;
  function trainLater() {
    if (wholeTraining()) return;
    clearTimeout(waiting);
    const again = (times) => {
      cache.delete(trainingKey());
      ownTraining();
      if (times > 1) waiting = setTimeout(again, 0, times - 1);
      else draw();
    };
    waiting = setTimeout(again, trained ? 0 : 50, trained ? 1 : 4);
    trained = true;
  }

  /* The certified figure, or null where none is kept. */
  function certifiedFigure(figure, key = recipeKey()) {
    if (isOwn()) return null;
    if (figure.updates > 1) return certified.exact(key, figure, last);
    if (!figure.updates) return certified.exact(key, figure, state.k);
    if (data.positions[state.k + 1] === updates() + 1) return certified.exact(key, figure, state.k + 1);
    if (!/weight/.test(figure.tensor)) return null;
    // Updated weights follow from two certified figures: w - eta dE/dw.
    const gradient = certified.exact(key, { ...figure, tensor: `dE/d${figure.tensor}` }, state.k);
    return certified.exact(key, figure, state.k) - (B.exact(Number(data.constants.eta)) * gradient) / ONE;
  }

  const isThere = (figure) => isOwn() || certifiedFigure(figure) !== null;
  const steps = () => data.figures.filter((figure) => isThere(figure)).map(({ key }) => FIGURES.get(key));

  /* A figure of the page; null where it takes a training that is still to come. */
  const value = (key) => {
    const figure = FIGURES.get(key);
    const kept = certifiedFigure(figure);
    if (kept !== null) return kept;
    const number = float(figure);
    return number === null ? null : B.exact(number);
  };

  /* An operand of a figure's formula: a figure, or a constant where it stands now. */
  function operand(key, figure) {
    if (FIGURES.has(key)) {
      // The bug: what the hidden deltas come through has already moved.
      const moved = state.order === "sequential" && /^dnet_o\d\/dout_h/.test(key) && figure.key !== key;
      return moved ? value(`${operands(FIGURES.get(key))[0]}@1`) : value(key);
    }
    const place = { i: ["input"], t: ["target"], b: [key === "b1" ? "0.bias" : "2.bias"] }[key[0]];
    if (key === "eta") return decimal(state.texts.eta);
    if (key[0] === "w") return tensorNow(FIGURES.get(`${key}@1`));
    return tensorNow({ tensor: place[0], index: [key[0] === "b" ? figure.index[0] : Number(key[1]) - 1] });
  }
  const decimal = (text) => B.parse(text).exact;
  function tensorNow(place) {
    return isOwn() ? B.exact(B.pick(floats()[0], place)) : certified.exact(recipeKey(), place, state.k);
  }

  /* Spelling numbers ----------------------------------------------------------------------------------------------- */

  const bare = (text) => (text.includes(".") ? text.replace(/\.?0+(?=e|$)/, "") : text);

  /* So many digits, or fewer where the number ends before. */
  function digits(number, most = state.digits) {
    if (number === null) return "\u2026";
    const shown = Math.min(most, isOwn() ? DIGITS.own : DIGITS.most);
    const text = B.significant(number, shown);
    const whole = bare(B.significant(number, isOwn() ? 16 : 30));
    return number === 0n || whole.replace(/e.*|[-.]/g, "").replace(/^0+/, "").length <= shown ? bare(text) : text;
  }

  const isHidden = (key) =>
    state.predict &&
    FIGURES.has(key) &&
    !state.revealed.has(key) &&
    FIGURES.get(key).order >= FIGURES.get(state.step).order;
  const shown = (key, most) => (isHidden(key) ? "?" : digits(value(key), most));
  const bracketed = (text) => (text.startsWith("-") ? `(${text.replace("-", "\u2212")})` : text);

  function inNumbers(figure) {
    return formula(templateOf(figure), (key) => (isHidden(key) ? "?" : bracketed(digits(operand(key, figure)))));
  }

  /* The drawings --------------------------------------------------------------------------------------------------- */

  const narrow = window.matchMedia("(max-width: 40rem)");

  function drawNetwork() {
    const most = Math.min(state.digits, narrow.matches ? DIGITS.small : DIGITS.drawn);
    const units = ["h1", "h2", "o1", "o2"].map((u) => `out ${u} ${shown(`out_${u}`)}`).join(", ");
    const drawn = Drawing.network({
      tall: narrow.matches,
      now: Drawing.part(state.step),
      used: new Set(operands(FIGURES.get(state.step)).map(Drawing.part)),
      title:
        `The network after ${count(updates())}: ${units}, error ${shown("E")}. ` +
        "All figures are in the table below.",
      say(key) {
        const bias = /^b_([ho])(\d)$/.exec(key);
        if (bias) return digits(operand(bias[1] === "h" ? "b1" : "b2", { index: [bias[2] - 1] }), most);
        return FIGURES.has(key) ? shown(key, most) : digits(operand(key), most);
      },
    });
    $("network").replaceChildren(drawn);
  }

  // Kept, because asking for it lays out the page.
  let curveWidth = 0;

  function drawCurve() {
    if (isOwn() && !wholeTraining()) return;
    const others = isOwn() ? [] : data.recipes.filter(({ key }) => key !== recipeKey());
    const series = (key) => data.positions.map((_, k) => certified.error(key, k));
    const mine = isOwn() ? wholeTraining().errors : series(recipeKey());
    const drawn = Drawing.curve({
      width: Math.max(curveWidth, 200),
      positions: data.positions,
      errors: [...others.map(({ key }) => series(key)), mine],
      k: state.k,
      dot: !isHidden("E"),
      title: `The error against the number of updates, now ${shown("E")}`,
    });
    $("curve").replaceChildren(drawn);
    $("curve-words").textContent =
      `E against the updates, both denser where things move; E is ${shown("E")} here.` +
      (isOwn() ? "" : " The thin lines are the other five recipes.");
  }

  /* The step ------------------------------------------------------------------------------------------------------- */

  /* Does something again only if what it depends on has changed. */
  const done = new Map();
  function whenever(name, key, make) {
    if (done.get(name) === key) return;
    done.set(name, key);
    make();
  }

  function drawSteps() {
    const present = steps();
    whenever("options", present.length, () => {
      const groups = new Map();
      for (const figure of present) {
        if (!groups.has(figure.section))
          groups.set(figure.section, html("optgroup", { label: data.sections[figure.section] }));
        groups.get(figure.section).append(html("option", { value: figure.key }, spelled(figure.key)));
      }
      $("step").replaceChildren(...groups.values());
    });
    for (const option of $("step").options)
      if (FIGURES.get(option.value).updates === 1) option.textContent = spelled(option.value);
    $("step").value = state.step;
    const at = present.findIndex(({ key }) => key === state.step);
    $("previous").disabled = at === 0;
    $("next").disabled = at === present.length - 1;
    const figure = FIGURES.get(state.step);
    $("section").textContent = `${data.sections[figure.section]} \u00b7 figure ${at + 1} of ${present.length}`;
    $("explain").textContent = Words.explained(state.step);

    const rows = [html("dt", {}, ...lettered(spelled(state.step)))];
    if (figure.template) {
      rows.push(html("dd", {}, "= ", ...lettered(formula(templateOf(figure), spelled))));
      if (!isName(figure)) rows.push(html("dd", {}, `= ${inNumbers(figure)}`));
    }
    rows.push(html("dd", { class: "value" }, isHidden(state.step) ? "= ? " : `= ${digits(value(state.step))}`));
    const notes = [];
    if (isHidden(state.step)) notes.push("Hidden until you have entered your figure.");
    if (state.order === "sequential" && /^dE_o\d\/dout_h/.test(state.step))
      notes.push("This recipe\u2019s bug: it multiplies by the weight that has already been updated.");
    if (state.order === "sequential" && /^dnet_o\d\/dout_h/.test(state.step))
      notes.push("This recipe does not use this original weight, but the updated one: the bug.");
    if (state.biases === "layer" && /^dE\/db/.test(state.step))
      notes.push("The bias is shared by the layer: this is the sum of both units\u2019 deltas.");
    rows.push(...notes.map((note) => html("dd", { class: "note" }, note)));
    $("formula").replaceChildren(...rows);
  }

  function go(key) {
    Object.assign(state, { step: key, yours: "", checked: false, answered: false });
    draw();
  }

  function walk(by) {
    const present = steps();
    const at = present.findIndex(({ key }) => key === state.step) + by;
    if (present[at]) go(present[at].key);
  }

  /* The verdict ---------------------------------------------------------------------------------------------------- */

  const judge = () =>
    cached(
      `judge ${ownKey()} ${recipeKey()} ${state.k}`,
      () => new B.Judge(netNow(), { order: "simultaneous", biases: state.biases }),
    );
  const judgeAtStart = () =>
    cached(
      `judge ${ownKey()} ${recipeKey()} start`,
      () =>
        new B.Judge(isOwn() ? typedNet(state.texts) : certified.net(recipeKey(), 0), {
          order: "simultaneous",
          biases: state.biases,
        }),
    );

  function said(typed) {
    const figure = FIGURES.get(state.step);
    const late = figure.updates > 1;
    // The truth is the correct order's. From the same weights, that is certified; later, the two trainings have parted.
    const same = state.order === "simultaneous" || late || updates() === 0;
    const truth = same ? certifiedFigure(figure, `simultaneous/${state.biases}`) : null;
    const verdict = (late ? judgeAtStart() : judge()).judge(figure, typed, truth);
    const others = verdict.kind === "right" ? [] : elsewhere(figure, typed);
    if (others.length) Object.assign(verdict, { kind: "mistake", mistakes: [...others, ...verdict.mistakes] });
    return { ...verdict, certified: truth !== null };
  }

  /* Other steps whose right figure was typed: so many digits do not meet by chance. */
  function elsewhere(figure, typed) {
    if (typed.text.replace(/^-?[0.]*/, "").length < 6) return [];
    const half = 10n ** BigInt(B.PLACES - typed.places) / 2n;
    return steps()
      .filter((other) => other.key !== figure.key)
      .filter((other) => {
        const truth = certifiedFigure(other, `simultaneous/${state.biases}`);
        const off = truth === null ? half + 1n : typed.exact - truth;
        return (off < 0n ? -off : off) <= half;
      })
      .map((other) => ({
        key: `elsewhere ${other.key}`,
        hint: "At which step are you?",
        answer: `It is the right figure of another step: ${spelled(other.key)}.`,
        recipe: { order: "simultaneous", biases: state.biases },
        slip: "",
        carried: Infinity,
      }));
  }

  function drawVerdict() {
    const box = $("verdict");
    $("yours").value = state.yours;
    complain("yours", "");
    box.className = "";
    box.replaceChildren();
    if (!state.checked) return;
    let typed;
    try {
      typed = B.parse(state.yours);
    } catch (error) {
      complain("yours", error.message);
      return;
    }
    const found = said(typed);
    const more = Math.min(typed.places + 3, 60);
    const reference = B.places(found.truth, typed.places);
    const [agree, differ] = B.mark(B.places(typed.exact, typed.places), reference);
    box.className = found.kind;
    const yours = differ ? [agree, marked(differ)] : [agree];
    box.append(
      html("h3", {}, Words.HEADINGS[found.kind]),
      html(
        "table",
        { class: "digits" },
        html(
          "tbody",
          {},
          html("tr", {}, html("th", { scope: "row" }, "yours"), html("td", {}, ...yours)),
          html(
            "tr",
            {},
            html("th", { scope: "row" }, found.certified ? "certified" : "in binary64"),
            html("td", {}, found.certified ? B.places(found.truth, more) : B.significant(found.truth, 17)),
          ),
        ),
      ),
      ...Words.verdict(found, typed.places).map((text) => html("p", {}, text)),
    );
    const inPrint = printed(found.kind, typed).map((text) => html("p", {}, text));
    const answers = found.mistakes;
    if (!answers.length) box.append(...inPrint);
    else if (found.kind === "mistake" && !state.answered) {
      const hints = [...new Set(answers.map(({ hint }) => hint))];
      box.append(html("p", {}, html("strong", {}, "Hint: "), hints.slice(0, 3).join(" ")));
    }
    if (answers.length && !state.answered) {
      const button = html(
        "button",
        { type: "button", id: "answer" },
        found.kind === "mistake" ? "Show the answer" : "What else would explain it?",
      );
      button.addEventListener("click", () => {
        state.answered = true;
        draw();
        $("answers").focus();
      });
      box.append(button);
    }
    if (answers.length && state.answered) {
      const exactly = ({ carried }) =>
        carried === Infinity ? "to every digit that you gave" : `with ${decimals(carried)} carried on the way`;
      box.append(
        html(
          "ul",
          { id: "answers", tabindex: "-1", "aria-label": "Known mistakes that explain it" },
          ...answers.map((mistake) =>
            html(
              "li",
              { "data-mistake": mistake.key },
              mistake.answer,
              " ",
              html("span", { class: "legend" }, `(${exactly(mistake)})`),
            ),
          ),
        ),
        ...inPrint,
      );
    }
  }

  /* Of a right figure, what is printed instead of it; of any other, that it is what is printed. */
  function printed(kind, typed) {
    if (isOwn() || updates() !== 0) return [];
    const wrong = data.published.filter((p) => p.key === state.step && p.says !== "right");
    if (kind === "right")
      return wrong.map((p) => `Where ${p.text} is printed, that is ${Words.PRINTED[p.says]}: yours is right.`);
    const same = wrong.find((p) => B.parse(p.text).exact === typed.exact);
    if (!same) return [];
    return [
      `This figure is in print (${data.sources[same.source]}): ${Words.PRINTED[same.says]}. Yielded by: ${same.by}.`,
    ];
  }

  /* Recipes and published figures ---------------------------------------------------------------------------------- */

  /* Under the recipe of the page: whether it yields a printed figure, and in words. */
  function light(published) {
    const n = FIGURES.get(published.key).updates;
    const mine = published.found.filter((f) => f.recipe === recipeKey());
    if (mine.some((f) => f.first <= n && n <= f.last)) return [true, "\u25cf yields it"];
    const shorter = published.misprints.find((m) => m.recipe === recipeKey());
    if (shorter) return [false, `\u25cb only one digit shorter: ${shorter.text}`];
    if (published.says !== "right" && mine.length) return [false, `\u25cb only after ${count(mine[0].first)}`];
    return [false, "\u2013 does not"];
  }

  function drawRecipes() {
    whenever("recipes", recipeKey(), drawPublished);
    const first = FIGURES.get("E@1");
    const start = isOwn() ? B.exact(judgeAtStart().float(first, recipe())) : certified.exact(recipeKey(), first, 1);
    const rows = [
      ["E after 1 update", isHidden("E@1") && state.k === 0 ? "?" : digits(start)],
      [`E after ${count(data.updates)}`, shown("E@10000")],
    ];
    $("errors").replaceChildren(...rows.flatMap(([name, text]) => [html("dt", {}, name), html("dd", {}, text)]));
  }

  function drawPublished() {
    for (const input of document.querySelectorAll("#recipes input")) input.checked = state[input.name] === input.value;
    let lit = 0;
    const bodies = { published: [], original: [] };
    for (const p of data.published) {
      const [on, words] = light(p);
      lit += on;
      const name = FIGURES.get(p.key).updates
        ? `${p.key.replace(/@.*/, "")} after ${count(FIGURES.get(p.key).updates)}`
        : spelled(p.key);
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

  /* All figures ---------------------------------------------------------------------------------------------------- */

  // Of each row what changes: its parts, and what they say.
  const rows = new Map();

  function makeTable(present) {
    const table = $("figures");
    for (const body of [...table.tBodies]) body.remove();
    rows.clear();
    let body = null;
    let section = "";
    for (const figure of present) {
      if (figure.section !== section) {
        section = figure.section;
        body = table.appendChild(
          html(
            "tbody",
            {},
            html("tr", { class: "section" }, html("th", { colspan: 4, scope: "rowgroup" }, data.sections[section])),
          ),
        );
      }
      const letters = figure.template ? lettered(formula(templateOf(figure), spelled)) : [];
      const parts = {
        name: html("button", { type: "button", "data-step": figure.key }),
        numbers: html("div"),
        value: html("td", { class: "number", "data-figure": figure.key }),
        binary: html("td"),
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
      rows.set(figure.key, { row, parts, said: {} });
    }
  }

  function drawTable() {
    const present = steps();
    whenever("table", `${present.length} ${state.biases === "layer"}`, () => makeTable(present));
    for (const figure of present) {
      const { row, parts, said: before } = rows.get(figure.key);
      const now = {
        numbers: figure.template && !isName(figure) ? [inNumbers(figure)] : [],
        value: [shown(figure.key)],
        binary: binary(figure),
      };
      const name = spelled(figure.key);
      if (before.name !== name) parts.name.replaceChildren(...lettered(name));
      before.name = name;
      for (const [part, texts] of Object.entries(now)) {
        if (before[part] === texts.join("|")) continue;
        before[part] = texts.join("|");
        const [agree = "", differ = ""] = texts;
        parts[part].replaceChildren(agree, ...(differ ? [marked(differ)] : []));
      }
      if (figure.key === state.step) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    $("figures-value").textContent = isOwn() ? "Value" : "Certified";
    $("table-words").textContent = isOwn()
      ? "Your own numbers: computed in binary64 by this page, whose arithmetic is tested against certified values; up to 17 digits."
      : "Certified: the true figure, rounded to the digits shown. Beside it what this page\u2019s arithmetic makes of it, in 17 digits; those from the first that differs from the truth are underlined.";
  }

  const marked = (differ) => html("mark", { title: "from here on it differs" }, differ);

  function binary(figure) {
    if (isHidden(figure.key)) return ["?"];
    const number = float(figure);
    if (number === null) return ["\u2026"];
    const text = B.significant(B.exact(number), 17);
    const kept = certifiedFigure(figure);
    if (kept === null) return [text];
    return B.mark(text, B.significant(kept, 17));
  }

  /* Fields --------------------------------------------------------------------------------------------------------- */

  const GROUPS = { i: "input", t: "target", w: "weight", b: "bias", e: "learning rate" };
  const LEADS = Object.fromEntries(Drawing.WEIGHTS.map(({ key, from, to }) => [key, `${from} to ${to}`]));

  function makeFields() {
    for (const name of Object.keys(data.constants)) {
      const words =
        { b1: "bias of h1, h2", b2: "bias of o1, o2", eta: "learning rate" }[name] ||
        `${GROUPS[name[0]]}${LEADS[name] ? `, ${LEADS[name]}` : ""}`;
      const input = html("input", {
        id: name,
        inputmode: "text",
        autocomplete: "off",
        autocapitalize: "off",
        spellcheck: "false",
        "aria-describedby": `${name}-message`,
      });
      input.addEventListener("input", () => take(name, input.value));
      $("fields").append(
        html(
          "div",
          {},
          html("label", { for: name }, html("b", {}, name === "eta" ? "\u03b7" : name), ` ${words}`),
          input,
          html("p", { class: "message", id: `${name}-message` }),
        ),
      );
    }
  }

  function complain(id, message) {
    $(`${id}-message`).textContent = message;
    $(id).setAttribute("aria-invalid", String(Boolean(message)));
  }

  /* A number that was typed into a field: used if it is one, else the last good one stays. */
  function take(name, text) {
    try {
      B.parse(text);
    } catch (error) {
      complain(name, error.message);
      return;
    }
    complain(name, "");
    state.texts = { ...state.texts, [name]: text.trim() };
    forget();
    draw();
  }

  /* What was said of a figure holds no more. */
  function forget() {
    Object.assign(state, { checked: false, answered: false });
    state.revealed.clear();
    if (!isThere(FIGURES.get(state.step))) state.step = data.figures[0].key;
  }

  function takeDigits(text) {
    const n = Number(text);
    if (!/^\s*\d+\s*$/.test(text) || n < DIGITS.least || n > DIGITS.most) {
      complain(
        "digits",
        `Expected a whole number from ${DIGITS.least} to ${DIGITS.most}; got \u201c${text.trim().slice(0, 20)}\u201d.`,
      );
      return;
    }
    complain("digits", "");
    state.digits = n;
    draw();
  }

  /* The address ---------------------------------------------------------------------------------------------------- */

  function spell() {
    const query = new URLSearchParams();
    if (state.k) query.set("at", updates());
    if (recipeKey() !== data.recipes[0].key) query.set("recipe", recipeKey());
    if (state.step !== data.figures[0].key) query.set("step", state.step);
    if (state.digits !== 9) query.set("digits", state.digits);
    if (state.predict) query.set("predict", 1);
    for (const [name, text] of Object.entries(data.constants))
      if (state.texts[name] !== text) query.set(name, state.texts[name]);
    if (state.checked) query.set("yours", state.yours);
    return query.toString().replace(/%2F/g, "/").replace(/%40/g, "@");
  }

  const READERS = {
    at(text) {
      const k = /^\d+$/.test(text) ? data.positions.findIndex((n) => n >= Number(text)) : -1;
      if (k < 0) throw new Error(`expected a number of updates from 0 to ${data.updates}`);
      return { k };
    },
    recipe(text) {
      if (!data.recipes.some(({ key }) => key === text))
        throw new Error(`expected one of ${data.recipes.map(({ key }) => key).join(", ")}`);
      const [order, biases] = text.split("/");
      return { order, biases };
    },
    step(text) {
      if (!FIGURES.has(text)) throw new Error("expected the name of a figure, such as dE/dw5");
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
    const found = { texts };
    let query = new URLSearchParams();
    try {
      decodeURIComponent(fragment);
      query = new URLSearchParams(fragment);
    } catch {
      messages.push("it is mangled");
    }
    if (messages.length === 0)
      Object.assign(found, {
        k: 0,
        order: ORDERS[0],
        biases: BIASES[0],
        step: data.figures[0].key,
        digits: 9,
        predict: false,
        yours: "",
        checked: false,
        answered: false,
      });
    else found.texts = state.texts;
    for (const [name, text] of query) {
      try {
        if (Object.hasOwn(data.constants, name)) {
          B.parse(text);
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
    Object.assign(state, found);
    state.revealed.clear();
    if (state.checked) state.revealed.add(state.step);
    if (!isThere(FIGURES.get(state.step))) state.step = data.figures[0].key;
    for (const name of Object.keys(data.constants)) complain(name, "");
    complain("digits", "");
    $("address-message").hidden = !messages.length;
    $("address-message").textContent = messages.length
      ? `Not everything in this page\u2019s address could be read; the last good values stay. ${messages.join("; ")}.`
      : "";
  }

  let spelledLast = null;
  let writing = 0;
  function write() {
    const fragment = spell();
    if (fragment === spelledLast) return;
    spelledLast = fragment;
    clearTimeout(writing);
    // Browsers refuse an address that changes too often, as it would under a dragged slider.
    writing = setTimeout(() => address(fragment), 150);
  }
  function address(fragment) {
    try {
      history.replaceState(null, "", `#${fragment}`);
    } catch {
      // Some viewers forbid it; the page works on without an address to share.
    }
  }

  /* All of it ------------------------------------------------------------------------------------------------------ */

  function draw() {
    $("at").value = state.k;
    $("at").setAttribute("aria-valuetext", `${count(updates())}, error ${shown("E")}`);
    $("at-words").textContent = thousands(updates());
    $("place").textContent = `after ${count(updates())}`;
    $("table-place").textContent = `of the round after ${count(updates())}`;
    $("source").textContent = isOwn()
      ? "Your own numbers, computed in binary64 by this page. Under each weight, \u2202 is its gradient."
      : `Certified values. Under each weight, \u2202 is its gradient. Choose a part to go to its step.`;
    $("predict").checked = state.predict;
    if (document.activeElement !== $("digits")) $("digits").value = state.digits;
    for (const [name, text] of Object.entries(state.texts))
      if (document.activeElement !== $(name)) $(name).value = text;
    drawNetwork();
    drawCurve();
    drawSteps();
    drawVerdict();
    drawRecipes();
    drawTable();
    write();
    trainLater();
  }

  $("at").max = last;
  $("yours-words").textContent = data.words.yours;
  $("bug-words").textContent = data.words.bug;
  $("more-words").append(
    ...["unsettled", "slip", "right"]
      .flatMap((key) => data.words[key].split("\n"))
      .filter(Boolean)
      .map((text) => html("p", {}, text)),
  );
  $("sources").textContent = Object.entries(data.sources)
    .map(([key, text]) => `${key[0].toUpperCase()}${key.slice(1)}: ${text}.`)
    .join(" ");
  makeFields();

  $("at").addEventListener("input", () => {
    state.k = Number($("at").value);
    forget();
    state.yours = "";
    draw();
  });
  $("previous").addEventListener("click", () => walk(-1));
  $("next").addEventListener("click", () => walk(1));
  $("step").addEventListener("change", () => go($("step").value));
  $("digits").addEventListener("input", () => takeDigits($("digits").value));
  $("network").addEventListener("click", (event) => {
    const target = event.target.closest("[data-step]");
    if (target) go(target.dataset.step);
  });
  $("predict").addEventListener("change", () => {
    state.predict = $("predict").checked;
    state.revealed.clear();
    draw();
  });
  $("check").addEventListener("submit", (event) => {
    event.preventDefault();
    Object.assign(state, { yours: $("yours").value, checked: true, answered: false });
    try {
      B.parse(state.yours);
      state.revealed.add(state.step);
    } catch {
      // Nothing is revealed for what is no figure; the verdict's place says why.
    }
    draw();
  });
  $("recipes").addEventListener("change", (event) => {
    if (!Object.hasOwn(state, event.target.name)) return;
    state[event.target.name] = event.target.value;
    forget();
    draw();
  });
  $("reset").addEventListener("click", () => {
    state.texts = { ...data.constants };
    for (const name of Object.keys(data.constants)) complain(name, "");
    forget();
    draw();
  });
  $("figures").addEventListener("click", (event) => {
    const target = event.target.closest("[data-step]");
    if (!target) return;
    go(target.dataset.step);
    show("step-panel");
  });
  function show(id) {
    $(id).scrollIntoView();
    $(id).focus({ preventScroll: true });
  }
  for (const link of document.querySelectorAll("[data-skip]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(link.dataset.skip);
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) walk(by);
  });
  window.addEventListener("hashchange", (event) => {
    // What the reader asked for, even if the page has written its own address since.
    const fragment = new URL(event.newURL).hash.slice(1);
    if (fragment === spelledLast) return;
    clearTimeout(writing);
    read(fragment);
    draw();
  });
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  narrow.addEventListener("change", draw);
  new ResizeObserver(([{ contentRect }]) => {
    curveWidth = contentRect.width;
    drawCurve();
  }).observe($("curve"));

  read(location.hash.slice(1));
  draw();
})();
