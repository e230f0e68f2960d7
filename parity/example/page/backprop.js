"use strict";

/*
 * The arithmetic of the page: one round of backpropagation on a 2-2-2 network, written once for two arithmetics, and
 * the judgement of a figure worked out by hand. No part of it knows of the page; it runs under Node as well.
 *
 * A network is { input, target, rate, hidden: { weight, bias }, output: { weight, bias } }; weight[k][j] leads from
 * source j into unit k. A recipe is { order, biases }: "simultaneous" or "sequential" (a bug: the hidden layer's deltas
 * come through output weights that have already moved), and "frozen", "unit" or "layer" (one bias shared by a layer's
 * two units, its gradient summed). Figures have the names of `parity example --json`.
 */
const Backprop = (() => {
  const pair = (f) => [f(0), f(1)];

  /* Arithmetics ---------------------------------------------------------------------------------------------------- */

  const sigmoid = (x) => 1 / (1 + Math.exp(-x));

  const FLOATS = {
    number: (x) => x,
    add: (a, b) => a + b,
    sub: (a, b) => a - b,
    mul: (a, b) => a * b,
    half: (a) => a / 2,
    sigmoid,
    // out (1 - out) would be 0 where out rounds to 1.
    slope: (net, out) => out * sigmoid(-net),
  };

  // More than binary64 loses in an operation (half of 2^-52 of its result), and in an exp (4 units in the last place).
  const LOSS = 2 ** -51;
  const EXP_LOSS = 2 ** -50;

  /*
   * Numbers x with a bound e: whoever keeps decimals on the way ends within e of the exact figure. In this model each
   * result of an operation is either kept in full or rounded, by at most `unit`; so is a given number that has more
   * decimals than are kept.
   *
   * Product, quotient, exp and half: the operands' errors passed on, and one rounding of the result, unless exact
   * operands yield a result that needs none. Sum: the operands' bounds added. If every operand was rounded, the sum
   * has no more decimals than they; if one was not, the rounding that its bound allows for pays for that of the sum.
   *
   * With unit 0 the bound is that of binary64 itself.
   */
  function decimals(places, unit = 10 ** -places / 2) {
    const scale = 10 ** places;
    const fits = (x) => {
      const scaled = x * scale;
      return Math.abs(scaled - Math.round(scaled)) <= 4 * LOSS * Math.abs(scaled);
    };
    const rounded = (x, e) => ({ x, e: e === 0 && fits(x) ? 0 : e + unit + LOSS * Math.abs(x) });
    const sum = (x, a, b) => ({ x, e: a.e + b.e === 0 ? 0 : a.e + b.e + LOSS * Math.abs(x) });
    const A = {
      number: (x) => rounded(x, 0),
      add: (a, b) => sum(a.x + b.x, a, b),
      sub: (a, b) => sum(a.x - b.x, a, b),
      mul: (a, b) => rounded(a.x * b.x, Math.abs(a.x) * b.e + Math.abs(b.x) * a.e + a.e * b.e),
      half: (a) => rounded(a.x / 2, a.e / 2),
      // 1 / (1 + z), z = exp(-net), written down in between.
      sigmoid(net) {
        const z = Math.exp(-net.x);
        const y = 1 / (1 + z);
        const moved = z * Math.expm1(net.e) + unit + EXP_LOSS * z;
        const error = moved * y < 1 ? (moved * y * y) / (1 - moved * y) : 1;
        // Whatever z became, the quotient lies between 0 and 1.
        return { x: y, e: Math.min(1, (Number.isNaN(error) ? 1 : error) + unit + LOSS) };
      },
      slope: (net, out) => A.mul(out, A.sub({ x: 1, e: 0 }, out)),
    };
    return A;
  }

  const BINARY = decimals(0, 0);

  /* One round ------------------------------------------------------------------------------------------------------ */

  // Written out for both units: 10,000 rounds are to be done between two frames of a screen.
  const dot = (A, a, b) => A.add(A.mul(a[0], b[0]), A.mul(a[1], b[1]));
  const affine = (A, X, W, b) => [A.add(dot(A, W[0], X), b[0]), A.add(dot(A, W[1], X), b[1])];
  const times = (A, a, b) => [A.mul(a[0], b[0]), A.mul(a[1], b[1])];
  const less = (A, a, b) => [A.sub(a[0], b[0]), A.sub(a[1], b[1])];
  const scaled = (A, a, b) => [A.mul(a, b[0]), A.mul(a, b[1])];
  const outer = (A, a, b) => [scaled(A, a[0], b), scaled(A, a[1], b)];
  const squashed = (A, net) => [A.sigmoid(net[0]), A.sigmoid(net[1])];
  const transposed = (W) => [
    [W[0][0], W[1][0]],
    [W[0][1], W[1][1]],
  ];

  /* The network in the numbers of an arithmetic. */
  function lift(A, net) {
    const lifted = (v) => (Array.isArray(v) ? v.map(lifted) : A.number(v));
    const layer = (l) => ({ weight: lifted(l.weight), bias: lifted(l.bias) });
    return {
      input: lifted(net.input),
      target: lifted(net.target),
      rate: A.number(net.rate),
      hidden: layer(net.hidden),
      output: layer(net.output),
    };
  }

  /* Forward, backward, update: every figure of the round at the weights before it, and the network after it. */
  function round(A, net, recipe, slip = "") {
    const { input, target, rate, hidden, output } = net;
    const crossed = slip === "transposed";
    const V = crossed ? transposed(hidden.weight) : hidden.weight;
    const W = crossed ? transposed(output.weight) : output.weight;
    const none = slip === "no-bias" ? [A.number(0), A.number(0)] : null;

    // net[k] = sum_j W[k][j] out[j] + b[k], out = 1 / (1 + exp(-net))
    const netH = affine(A, input, V, none || hidden.bias);
    const outH = squashed(A, netH);
    const netO = affine(A, outH, W, none || output.bias);
    const outO = squashed(A, netO);

    // E = sum_k E_o[k], E_o[k] = (t[k] - out[k])^2 / 2
    const missed = less(A, target, outO);
    const squares = times(A, missed, missed);
    const whole = slip === "no-half" || slip === "no-half-anywhere";
    const errors = whole ? squares : [A.half(squares[0]), A.half(squares[1])];

    // dE/dout[k] = out[k] - t[k]
    const distance = slip === "sign" ? missed : less(A, outO, target);
    let doutO = distance;
    if (slip === "no-half-anywhere") doutO = pair((k) => A.add(distance[k], distance[k]));
    if (slip === "half-gradient") doutO = pair((k) => A.half(distance[k]));

    // dout/dnet = out (1 - out), dE/dnet = dE/dout dout/dnet
    const slope = (n, out) => (slip === "slope-at-net" ? A.mul(n, A.sub(A.number(1), n)) : A.slope(n, out));
    const slopeO = [slope(netO[0], outO[0]), slope(netO[1], outO[1])];
    const slopeH = [slope(netH[0], outH[0]), slope(netH[1], outH[1])];
    const flat = slip === "no-slope";
    const dnetO = flat || slip === "no-slope-output" ? doutO : times(A, doutO, slopeO);

    // dE/dW[k][j] = dE/dnet[k] out[j], dE/db[k] = dE/dnet[k]
    const shared = (d) => (recipe.biases === "layer" ? pair(() => A.add(d[0], d[1])) : d);
    const dW = outer(A, dnetO, outH);
    const dbO = shared(dnetO);

    // p - rate dE/dp
    const step = (p, d) => {
      const move = slip === "no-rate" ? d : A.mul(rate, d);
      return slip === "ascent" ? A.add(p, move) : A.sub(p, move);
    };
    const steps = (p, d) => [step(p[0], d[0]), step(p[1], d[1])];
    const moved = (layer, weight, bias) => ({
      weight: [steps(layer.weight[0], weight[0]), steps(layer.weight[1], weight[1])],
      bias: recipe.biases === "frozen" ? layer.bias : steps(layer.bias, bias),
    });
    const nextOutput = moved(output, dW, dbO);

    // dE/dout_h[j] = sum_k dE_o[k]/dout_h[j], dE_o[k]/dout_h[j] = dE/dnet_o[k] W[k][j]
    const back = recipe.order === "sequential" ? nextOutput.weight : W;
    const shares = [scaled(A, dnetO[0], back[0]), scaled(A, dnetO[1], back[1])];
    const doutH =
      slip === "one-share"
        ? [shares[0][0], shares[1][1]]
        : [A.add(shares[0][0], shares[1][0]), A.add(shares[0][1], shares[1][1])];
    const dnetH = flat || slip === "no-slope-hidden" ? doutH : times(A, doutH, slopeH);
    const dV = outer(A, dnetH, input);
    const dbH = shared(dnetH);

    return {
      figures: {
        input,
        target,
        "0.weight": hidden.weight,
        "0.bias": hidden.bias,
        "2.weight": output.weight,
        "2.bias": output.bias,
        net_h: netH,
        out_h: outH,
        net_o: netO,
        out_o: outO,
        E_o: errors,
        E: A.add(errors[0], errors[1]),
        "dE/dout_o": doutO,
        "dout_o/dnet_o": slopeO,
        "dE/dnet_o": dnetO,
        "dE/d2.weight": dW,
        "dE/d2.bias": dbO,
        "dE_o/dout_h": shares,
        "dE/dout_h": doutH,
        "dout_h/dnet_h": slopeH,
        "dE/dnet_h": dnetH,
        "dE/d0.weight": dV,
        "dE/d0.bias": dbH,
      },
      next: { input, target, rate, hidden: moved(hidden, dV, dbH), output: nextOutput },
    };
  }

  /* The network after so many updates; `visit(n, net)` is called before the first and after each. */
  function train(net, recipe, updates, slip = "", visit = () => {}) {
    visit(0, net);
    for (let n = 1; n <= updates; n++) {
      net = round(FLOATS, net, recipe, slip).next;
      visit(n, net);
    }
    return net;
  }

  const pick = (figures, { tensor, index }) => index.reduce((value, k) => value[k], figures[tensor]);

  /* Decimals, exactly ---------------------------------------------------------------------------------------------- */

  const PLACES = 100;
  const ONE = 10n ** BigInt(PLACES);
  const abs = (a) => (a < 0n ? -a : a);

  /* A binary64 number as an integer times 10^-PLACES, cut off there. */
  function exact(x) {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, Math.abs(x));
    const bits = view.getBigUint64(0);
    const exponent = Number(bits >> 52n);
    const fraction = bits & (2n ** 52n - 1n);
    const scaled = (exponent ? fraction + 2n ** 52n : fraction) * ONE;
    const shift = Math.max(exponent, 1) - 1075;
    const size = shift < 0 ? scaled >> BigInt(-shift) : scaled << BigInt(shift);
    return x < 0 ? -size : size;
  }

  const nearest = (a) => Number(a) / Number(ONE);

  /* a / b to the nearest integer, ties to even; a and b not negative. */
  function quotient(a, b) {
    const q = a / b;
    const twice = 2n * (a - q * b);
    return twice > b || (twice === b && q % 2n === 1n) ? q + 1n : q;
  }

  /* So many significant digits, spelled as `parity` does. */
  function significant(a, digits) {
    if (a === 0n) return "0." + "0".repeat(digits - 1);
    const size = abs(a);
    const sign = a < 0n ? "-" : "";
    let exponent = size.toString().length - 1 - PLACES;
    const power = PLACES + exponent - digits + 1;
    let text = (power > 0 ? quotient(size, 10n ** BigInt(power)) : size * 10n ** BigInt(-power)).toString();
    if (text.length > digits) [text, exponent] = [text.slice(0, digits), exponent + 1];
    if (exponent < -5 || exponent >= digits) return `${sign}${text[0]}.${text.slice(1)}e${exponent}`;
    if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${text}`;
    return sign + text.slice(0, exponent + 1) + (digits > exponent + 1 ? "." + text.slice(exponent + 1) : "");
  }

  /* So many decimals. */
  function places(a, n) {
    const text = quotient(abs(a), 10n ** BigInt(PLACES - n))
      .toString()
      .padStart(n + 1, "0");
    const sign = a < 0n && /[1-9]/.test(text) ? "-" : "";
    return sign + text.slice(0, text.length - n) + (n ? "." + text.slice(-n) : "");
  }

  /* Two spellings of a number, the first split where they part. */
  function mark(text, reference) {
    let agree = 0;
    while (agree < Math.min(text.length, reference.length) && text[agree] === reference[agree]) agree++;
    return [text.slice(0, agree), text.slice(agree)];
  }

  const LIMIT = 1000;

  /* What was typed: { text, value, exact, places }. Throws an Error that says what was expected and what came. */
  function parse(typed) {
    const text = typed
      .trim()
      .replace(/[\u2212\u2013]/g, "-")
      .replace(",", ".");
    if (!text) throw new Error("Expected a number, such as 0.35; the field is empty.");
    const found = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(text);
    if (!found || !(found[2] || found[3]))
      throw new Error(`Expected a number, such as 0.35; got \u201c${typed.trim().slice(0, 40)}\u201d.`);
    const [, sign, whole, fraction = "", power = "0"] = found;
    if (!(Math.abs(Number(text)) <= LIMIT))
      throw new Error(`Expected a number from -${LIMIT} to ${LIMIT}; got ${typed.trim().slice(0, 40)}.`);
    const decimals_ = fraction.length - Number(power);
    if (decimals_ > PLACES || text.length > PLACES) throw new Error(`Expected at most ${PLACES} decimals; got more.`);
    const size = BigInt(whole + fraction) * 10n ** BigInt(PLACES - decimals_);
    return { text, value: Number(text), exact: sign === "-" ? -size : size, places: Math.max(decimals_, 0) };
  }

  /* Judging a figure ----------------------------------------------------------------------------------------------- */

  const BIASES = {
    frozen: "the biases stay as they are",
    unit: "each unit's bias is moved by its own gradient",
    layer: "a layer's units share one bias, moved by the sum of their gradients",
  };

  const SLIPS = {
    "no-slope": [
      "Is every factor of the chain rule there?",
      "The derivative of the sigmoid, out (1 - out), is missing in both layers: \u2202E/\u2202net was taken to be \u2202E/\u2202out.",
    ],
    "no-slope-output": [
      "Is every factor of the chain rule there, at the outputs?",
      "The derivative of the sigmoid, out (1 - out), is missing at the outputs: \u2202E/\u2202net was taken to be \u2202E/\u2202out.",
    ],
    "no-slope-hidden": [
      "Is every factor of the chain rule there, in the hidden layer?",
      "The derivative of the sigmoid, out (1 - out), is missing at the hidden units: \u2202E/\u2202net was taken to be \u2202E/\u2202out.",
    ],
    "slope-at-net": [
      "At which number is the derivative of the sigmoid taken?",
      "The derivative of the sigmoid was taken as net (1 - net). It is out (1 - out).",
    ],
    sign: ["Look at the signs.", "The sign is turned: \u2202E/\u2202out is out - target, not target - out."],
    ascent: [
      "Look at the signs.",
      "The step went uphill: rate \u00d7 gradient is subtracted from a weight, not added to it.",
    ],
    "no-half": [
      "Look at the definition of the error again.",
      "The \u00bd is missing: E is the sum of \u00bd (target - out)\u00b2.",
    ],
    "no-half-anywhere": [
      "Look at the definition of the error again.",
      "The \u00bd is missing from the error, and so the gradients are twice theirs: with the \u00bd, \u2202E/\u2202out is out - target.",
    ],
    "half-gradient": [
      "What does the \u00bd in the error become when it is differentiated?",
      "The \u00bd was kept in the derivative. It cancels the 2 of the square: \u2202E/\u2202out is out - target.",
    ],
    "no-bias": ["Is everything there that enters a unit?", "The biases were left out of the net inputs."],
    "one-share": [
      "Along how many paths does a hidden unit act on the error?",
      "Only one output's share was taken: \u2202E/\u2202out of a hidden unit is the sum of both outputs' shares.",
    ],
    transposed: [
      "Which weight belongs to which edge?",
      "The weights were taken crosswise: w1 and w2 lead into h1, w3 and w4 into h2, w5 and w6 into o1, w7 and w8 into o2.",
    ],
    "no-rate": ["How long is the step?", "The learning rate is missing: a weight moves by rate \u00d7 gradient."],
  };

  /* The known mistakes, seen from a recipe: how each would have been computed, a hint, and the answer. */
  function mistakes(recipe) {
    const found = [];
    const order =
      "The deltas of the outputs went back through w5 to w8 after these had been updated. " +
      "Every gradient is taken at the old weights; only then do all weights move.";
    const hints = [
      "Through which output weights did the deltas go back to the hidden layer?",
      "Which biases move in this recipe, and by what?",
    ];
    for (const biases of Object.keys(BIASES)) {
      const other = biases !== recipe.biases;
      const moved = `It is what one gets if ${BIASES[biases]}; here ${BIASES[recipe.biases]}.`;
      const add = (order_, key, hint, answer) =>
        found.push({ key, hint, answer, recipe: { order: order_, biases }, slip: "" });
      if (other) add("simultaneous", `biases-${biases}`, hints[1], moved);
      add(
        "sequential",
        other ? `updated-weights-biases-${biases}` : "updated-weights",
        other ? hints.join(" ") : hints[0],
        other ? `${order} ${moved}` : order,
      );
    }
    for (const [slip, [hint, answer]] of Object.entries(SLIPS)) found.push({ key: slip, hint, answer, recipe, slip });
    return found;
  }

  const MOST = 12;

  /*
   * Judges figures of the round at `net` and of what follows it. A figure is { tensor, index, updates }: an element of a
   * tensor of `round` after so many updates. The truth is `recipe`'s, which is simultaneous: the other order is a bug.
   */
  class Judge {
    constructor(net, recipe) {
      this.net = net;
      this.recipe = recipe;
      this.kept = new Map();
    }

    memo(key, make) {
      if (!this.kept.has(key)) this.kept.set(key, make());
      return this.kept.get(key);
    }

    /* Two rounds in an arithmetic, as figures. */
    rounds(A, name, recipe, slip) {
      return this.memo(`${name} ${recipe.order} ${recipe.biases} ${slip}`, () => {
        const first = round(A, lift(A, this.net), recipe, slip);
        return [first.figures, round(A, first.next, recipe, slip).figures];
      });
    }

    /* The figure in binary64. */
    float(figure, recipe = this.recipe, slip = "") {
      const { updates } = figure;
      if (updates < 2) return pick(this.rounds(FLOATS, "floats", recipe, slip)[updates], figure);
      return pick(this.after(updates, recipe, slip), figure);
    }

    after(updates, recipe, slip) {
      return this.memo(
        `${updates} ${recipe.order} ${recipe.biases} ${slip}`,
        () => round(FLOATS, train(this.net, recipe, updates, slip), recipe, slip).figures,
      );
    }

    /* How far the figure may be off with so many decimals kept, rounded or cut off; past the second round, anything. */
    bound(figure, kept, recipe = this.recipe, slip = "", cut = false) {
      if (figure.updates > 1) return kept === Infinity ? 0 : Infinity;
      const A = kept === Infinity ? BINARY : decimals(kept, cut ? 10 ** -kept : undefined);
      return pick(this.rounds(A, `${kept} ${cut}`, recipe, slip)[figure.updates], figure).e;
    }

    /* The most decimals that, kept on the way, explain a distance from a recipe's figure, of those from `least`; or 0. */
    carried(figure, distance, last, recipe, slip, cut, least = 1) {
      const explains = (kept) => distance <= this.bound(figure, kept, recipe, slip, cut) + last;
      if (figure.updates > 1 || !explains(least)) return 0;
      let kept = least;
      while (kept < MOST && explains(kept + 1)) kept++;
      return kept;
    }

    /*
     * What a figure is that was typed: { kind, truth, off, carried, cut, blind, mistakes }.
     *
     * kind: "right": the truth, rounded to as many decimals as were typed. "carried": explained by decimals kept on the
     * way, and by no mistake better. "mistake": explained by known mistakes better than by decimals. "unexplained".
     * carried, cut: the most decimals that explain it, rounded and cut off on the way. blind: so few that 0 would pass.
     * mistakes: all that explain it to every digit; if none does, those that explain it with more decimals
     * carried than rounding alone does, or with as many as were typed; the best first.
     * `certified`, where there is one, is the truth as `exact` has it.
     */
    judge(figure, typed, certified = null) {
      const { value, exact: given, places: typedPlaces } = typed;
      const float = this.float(figure);
      const truth = certified === null ? exact(float) : certified;
      const half = 10n ** BigInt(PLACES - typedPlaces) / 2n;
      const blur = certified === null ? exact(this.bound(figure, Infinity)) : 0n;
      const said = { truth, off: nearest(given - truth), carried: 0, cut: 0, blind: false, mistakes: [] };
      if (abs(given - truth) <= half + blur) return { kind: "right", ...said };

      const last = 10 ** -typedPlaces / 2;
      const distance = Math.abs(said.off);
      said.carried = this.carried(figure, distance, last, this.recipe, "", false);
      said.cut = this.carried(figure, distance, last, this.recipe, "", true);
      const kept = Math.max(said.carried, said.cut);
      said.blind = kept > 0 && this.bound(figure, kept, this.recipe, "", said.carried < said.cut) >= Math.abs(float);
      said.mistakes = this.mistaken(figure, value, last, float, Math.max(1, Math.min(kept + 1, typedPlaces)));
      if (kept < typedPlaces) said.mistakes.push(...this.misprinted(figure, typed));
      const better = said.mistakes.some((m) => m.carried > kept);
      if (kept && (kept >= typedPlaces || (!better && !said.blind))) return { kind: "carried", ...said };
      return { kind: said.mistakes.length ? "mistake" : "unexplained", ...said };
    }

    /* The mistakes that yield a value, each with the most decimals kept on the way, from `least`: Infinity for all. */
    mistaken(figure, value, last, truth, least) {
      const found = [];
      const consider = (mistake, at) => {
        const float = this.float(at, mistake.recipe, mistake.slip);
        if (float === truth) return;
        const distance = Math.abs(value - float);
        if (distance <= last * (1 + LOSS) + this.bound(at, Infinity, mistake.recipe, mistake.slip)) {
          found.push({ ...mistake, carried: Infinity });
          return;
        }
        const carried = this.carried(at, distance, last, mistake.recipe, mistake.slip, false, least);
        const sees = carried && this.bound(at, carried, mistake.recipe, mistake.slip) < Math.abs(float);
        if (sees) found.push({ ...mistake, carried });
      };
      for (const mistake of mistakes(this.recipe)) consider(mistake, figure);
      if (figure.updates > 0 && (figure.tensor === "E" || figure.tensor === "out_o")) {
        for (const [by, words] of [
          [-1, "one too few"],
          [1, "one too many"],
        ]) {
          const at = { ...figure, updates: figure.updates + by };
          const answer = `It is this recipe's figure after ${at.updates} update${at.updates === 1 ? "" : "s"}, ${words}.`;
          consider(
            { key: `updates${by}`, hint: "How many updates were made?", answer, recipe: this.recipe, slip: "" },
            at,
          );
        }
      }
      const exactly = found.filter((m) => m.carried === Infinity);
      return exactly.length ? exactly : found.sort((a, b) => b.carried - a.carried);
    }

    /* A digit too many: with one decimal less, it would be some recipe's figure. */
    misprinted(figure, { text }) {
      const point = text.indexOf(".");
      if (point < 0 || /e/i.test(text) || text.replace(/^-?[0.]*/, "").length < 6) return [];
      const found = [];
      const shorter = new Set(
        [...text.slice(point + 1)].map((_, k) => text.slice(0, point + 1 + k) + text.slice(point + 2 + k)),
      );
      for (const order of ["simultaneous", "sequential"]) {
        const recipe = { order, biases: this.recipe.biases };
        const whole = exact(this.float(figure, recipe));
        if (places(whole, text.length - point - 1) === text) continue;
        for (const other of shorter) {
          if (places(whole, other.length - point - 1) !== other) continue;
          const words =
            order === "sequential" ? "the figure that one gets with weights updated too early" : "the right figure";
          const answer = `One digit too many: ${other} is ${words}.`;
          found.push({
            key: `misprint-${order}`,
            hint: "Count the digits.",
            answer,
            recipe,
            slip: "",
            carried: Infinity,
          });
        }
      }
      return found;
    }
  }

  return {
    FLOATS,
    LIMIT,
    PLACES,
    Judge,
    decimals,
    exact,
    lift,
    mark,
    mistakes,
    nearest,
    parse,
    pick,
    places,
    round,
    significant,
    train,
  };
})();

if (typeof module === "object") module.exports = Backprop;
