"use strict";

/*
 * Where the page's figures come from: the certified values, or binary64 where there is none, as for the learner's own
 * numbers. A figure is an integer times 10^-PLACES, as `Digits.exact` makes it, so that digits are digits. It is null
 * where it is not finite, and undefined where it takes a training that is still to come.
 */
const Values = (() => {
  const { cached, data, figure, isOwn, last, model, ownKey, recipe, recipeKey, state } = Page;
  const { ONE, exact } = Digits;

  /* The certified values, decoded once. */
  const certified = (() => {
    const bytes = Uint8Array.from(atob(data.numbers), (c) => c.charCodeAt(0));
    const numbers = new DataView(bytes.buffer);
    const rows = data.positions.length;
    const number = (column, part, k) => numbers.getFloat64(8 * ((2 * column + part) * rows + k), true);
    const column = (key, tensor, index) => index.reduce((value, k) => value[k], data.columns[key][tensor]);
    return {
      exact: (key, { tensor, index }, k) => {
        const at = column(key, tensor, index);
        return exact(number(at, 0, k)) + exact(number(at, 1, k));
      },
      float: (key, { tensor, index }, k) => number(column(key, tensor, index), 0, k),
    };
  })();

  const BIAS = { h: "0.bias", o: "2.bias" };
  /* Where a constant or a unit's bias stands among the certified tensors. */
  function place(name) {
    if (name[0] === "w") return data.models[data.article.key].figures.find(({ key }) => key === `${name}@1`);
    if (name[0] === "b") return { tensor: BIAS[name[2]], index: [Number(name[3]) - 1] };
    return { tensor: { i: "input", t: "target" }[name[0]], index: [Number(name[1]) - 1] };
  }

  /* A network of numbers by name, as `Formulas` takes it; `of` gives the number of a name. */
  function network(of) {
    const names = model().constants.filter((name) => !/^b/.test(name));
    const units = Formulas.UNITS.map((u) => `b_${u}`);
    return Object.fromEntries([...names, ...units].map((name) => [name, of(name)]));
  }
  const typedNetwork = () =>
    network((name) => Digits.parse(state.texts[/^b_/.test(name) ? { h: "b1", o: "b2" }[name[2]] : name]).value);
  const certifiedNetwork = (key, k) =>
    network((name) => (name === "eta" ? Number(data.constants.eta) : certified.float(key, place(name), k)));

  const start = () => (isOwn() ? typedNetwork() : certifiedNetwork(recipeKey(), 0));

  const program = () =>
    cached(`program ${model().key} ${recipeKey()}`, () =>
      Formulas.program(model().figures, recipe(), Judging.recipeRules(data.known, recipe())),
    );

  /* A training in binary64: at each of the positions the network and its error. */
  function training() {
    const nets = [];
    let net = start();
    data.positions.forEach((n, k) => {
      if (k) net = program().advance(net, n - data.positions[k - 1]);
      nets.push(net);
    });
    return { nets, errors: nets.map((at) => program().evaluate(Arithmetic.FLOATS, at).E) };
  }

  const trainingKey = () => `training ${ownKey()} ${recipeKey()}`;
  const ownTraining = () => cached(trainingKey(), training);
  const wholeTraining = () => Page.cache.get(trainingKey()) || null;

  /*
   * All updates in binary64 are made once the page has shown what it knows at once. Those of the example are made more
   * than once: by the time that numbers are typed, the browser has then compiled the engine.
   */
  let trained = false;
  let waiting = 0;
  function trainLater() {
    if (wholeTraining()) return;
    clearTimeout(waiting);
    const again = (times) => {
      Page.cache.delete(trainingKey());
      ownTraining();
      if (times > 1) waiting = setTimeout(again, 0, times - 1);
      else Page.draw();
    };
    waiting = setTimeout(again, trained ? 0 : 50, trained ? 1 : 4);
    trained = true;
  }

  /* The network before the round that is worked out. */
  function networkNow() {
    if (!isOwn()) return certifiedNetwork(recipeKey(), state.k);
    return state.k ? ownTraining().nets[state.k] : typedNetwork();
  }

  /* The round that is worked out and the next one, in binary64. */
  const floats = () =>
    cached(`floats ${ownKey()} ${recipeKey()} ${state.k}`, () => {
      const first = program().evaluate(Arithmetic.FLOATS, networkNow());
      return [first, program().evaluate(Arithmetic.FLOATS, program().next(first))];
    });

  const atEnd = () => {
    const whole = wholeTraining();
    return whole && cached(`end ${trainingKey()}`, () => program().evaluate(Arithmetic.FLOATS, whole.nets[last]));
  };

  /* A figure in binary64; undefined where it takes a training that is still to come. */
  function float({ key, updates }) {
    const round = updates < 2 ? floats()[updates] : atEnd();
    return round ? round[key.split("@")[0]] : undefined;
  }

  /* The certified figure by a recipe, or null where none is kept. */
  function certifiedFigure(found, key = recipeKey(), k = state.k) {
    if (isOwn() || !found.tensor) return null;
    if (found.updates > 1) return certified.exact(key, found, last);
    if (!found.updates) return certified.exact(key, found, k);
    if (data.positions[k + 1] === data.positions[k] + 1) return certified.exact(key, found, k + 1);
    if (!/weight/.test(found.tensor)) return null;
    // Updated weights follow from two certified figures: w - eta dE/dw.
    const gradient = certified.exact(key, { ...found, tensor: `dE/d${found.tensor}` }, k);
    return certified.exact(key, found, k) - (exact(Number(data.constants.eta)) * gradient) / ONE;
  }

  const isThere = (found) => isOwn() || certifiedFigure(found) !== null;
  const steps = () => model().figures.filter(isThere);

  function value(key) {
    const kept = certifiedFigure(figure(key));
    if (kept !== null) return kept;
    const number = float(figure(key));
    return number === undefined ? undefined : exact(number);
  }

  /* A figure of the drawn network: of the round that is worked out, of the one after it, or of the end. */
  function drawnValue(key) {
    const open = figure(state.step);
    if (open.section !== "after" || open.updates === 0) return value(key);
    const n = open.updates;
    const k = n > 1 ? last : data.positions[state.k + 1] === data.positions[state.k] + 1 ? state.k + 1 : -1;
    if (!isOwn() && k >= 0) return certified.exact(recipeKey(), figure(key), k);
    const round = n > 1 ? atEnd() : floats()[1];
    return round ? exact(round[key]) : undefined;
  }

  /* A constant of the drawn network, or a unit's bias. */
  function drawnConstant(name) {
    const open = figure(state.step);
    if (open.section !== "after") return constant(name);
    const round = open.updates > 1 ? atEnd() : floats()[1];
    if (/^[wb]/.test(name)) {
      const k = open.updates > 1 ? last : data.positions[state.k + 1] === data.positions[state.k] + 1 ? state.k + 1 : -1;
      if (!isOwn() && k >= 0) return certified.exact(recipeKey(), place(name), k);
      return round ? exact(round[name]) : undefined;
    }
    return constant(name);
  }

  /* A constant where it stands now, or a unit's bias. */
  function constant(name) {
    if (!/^[wb]/.test(name)) return Digits.parse(state.texts[name]).exact;
    return isOwn() ? exact(floats()[0][name]) : certified.exact(recipeKey(), place(name), state.k);
  }

  /* An operand of a figure's formula: a figure, or a constant where it stands now. */
  function operand(key, of) {
    if (model().byKey.has(key)) return value(key);
    return constant(/^b\d$/.test(key) ? `b_${of.key.slice(4, 6)}` : key);
  }

  /* The formulas as the recipe has them: the bug's and those of shared biases differ. */
  const formulas = () =>
    cached(`formulas ${model().key} ${recipeKey()}`, () => {
      const listed = model().figures.filter(({ template }) => template);
      return Formulas.rewrite(
        Object.fromEntries(listed.map(({ key, template }) => [key, template])),
        Judging.recipeRules(data.known, recipe()),
      );
    });
  const templateOf = ({ key }) => formulas()[key] || "";
  const operands = (found) => Formulas.operands(templateOf(found));
  const isName = (found) => templateOf(found) === `{${operands(found)[0]}}`;

  /* The judge of the round that is worked out, or of the end: that one starts where the training did. */
  function judge(atStart) {
    const k = atStart ? 0 : state.k;
    return cached(`judge ${ownKey()} ${recipeKey()} ${k}`, () => {
      // The truth is the correct order's. From the same weights, that is certified; later, the two trainings parted.
      const same = state.order === "simultaneous" || k === 0;
      return new Judging.Judge({
        known: data.known,
        figures: k === 0 ? model().figures : steps().filter(({ updates }) => updates < 2),
        start: k === 0 ? start() : networkNow(),
        biases: state.biases,
        published: isOwn() || k ? [] : data.published,
        certified: (key, { order, biases }) =>
          same ? certifiedFigure(figure(key), `${order}/${biases}`, k) : null,
      });
    });
  }

  return {
    certified,
    certifiedFigure,
    constant,
    drawnConstant,
    drawnValue,
    float,
    floats,
    isName,
    isThere,
    judge,
    operand,
    operands,
    ownTraining,
    steps,
    templateOf,
    trainLater,
    value,
    wholeTraining,
  };
})();
