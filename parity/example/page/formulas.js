"use strict";

/*
 * The round of backpropagation, made of the formulas that the page shows: parsed once, put in the order in which they
 * need each other, and evaluated in any arithmetic. Known mistakes and recipes are rewritings of the formulas, as
 * `parity/example/mistakes.py` writes them.
 *
 * A network is an object of numbers by name: i1 i2 t1 t2 w1 ... w8 b_h1 b_h2 b_o1 b_o2 eta, and i1:2 ... t2:2 of a second
 * sample. A recipe is { order, biases }: "simultaneous" or "sequential" (a bug: the hidden layer's deltas come through
 * output weights that have already moved), and "frozen", "unit" or "layer" (one bias shared by a layer's two units).
 */
const Formulas = (() => {
  const UNITS = ["h1", "h2", "o1", "o2"];
  const MOVING = [...[1, 2, 3, 4, 5, 6, 7, 8].map((n) => `w${n}`), ...UNITS.map((u) => `b_${u}`)];

  const operands = (formula) => [...formula.matchAll(/\{(.*?)\}/g)].map((found) => found[1]);

  /* Formulas by key, with rules [figures, find, put] applied one after the other. */
  function rewrite(formulas, rules) {
    const found = { ...formulas };
    for (const [figures, find, put] of rules) {
      const [which, what] = [new RegExp(figures), new RegExp(find, "g")];
      for (const key of Object.keys(found)) {
        if (!which.test(key)) continue;
        found[key] = found[key].replace(what, (...match) => put.replace(/<(\d)>/g, (_, n) => match[n] || ""));
      }
    }
    return found;
  }

  /* A formula as a tree: a number, a name, or [operation, ...operands]. */
  function parse(formula) {
    const tokens = formula.match(/\{.*?\}|\*\*|[a-z]+|\d+(?:\.\d+)?|\S/g);
    let at = 0;
    const take = (token) => tokens[at] === token && ++at;
    const need = (token) => {
      if (!take(token)) throw new Error(`${formula}: expected ${token}, got ${tokens[at]}`);
    };
    function atom() {
      const token = tokens[at++];
      if (/^\d/.test(token)) return Number(token);
      if (token[0] === "{") return token.slice(1, -1);
      const inner = () => {
        const found = sum();
        need(")");
        return found;
      };
      if (token === "(") return inner();
      need("(");
      return [token, inner()];
    }
    function power() {
      const base = atom();
      if (!take("**")) return base;
      need("2");
      return ["square", base];
    }
    const factor = () => (take("-") ? ["neg", factor()] : power());
    const chain = (next, signs) => () => {
      let left = next();
      for (;;) {
        const sign = Object.keys(signs).find(take);
        if (!sign) return left;
        left = [signs[sign], left, next()];
      }
    };
    const term = chain(factor, { "*": "mul", "/": "div" });
    const sum = chain(term, { "+": "add", "-": "sub" });
    const tree = sum();
    if (at < tokens.length) throw new Error(`${formula}: expected its end, got ${tokens[at]}`);
    return tree;
  }

  /* The keys of formulas, each after those that it needs. */
  function ordered(formulas) {
    const found = new Set();
    const visit = (key) => {
      if (found.has(key) || !Object.hasOwn(formulas, key)) return;
      operands(formulas[key]).forEach(visit);
      found.add(key);
    };
    Object.keys(formulas).forEach(visit);
    return [...found];
  }

  /* Every formula of a round, each unit's own bias in it, and how the biases move. */
  function ofRound(figures, recipe, rules, stable) {
    const listed = figures.filter(({ template }) => template);
    const shown = Object.fromEntries(listed.map(({ key, template }) => [key, template]));
    if (recipe.biases !== "frozen")
      for (const u of UNITS) shown[`b_${u}@1`] = `{b_${u}} - {eta} * {dE/db_${u}}`;
    const found = rewrite(shown, rules);
    if (stable)
      for (const figure of listed)
        if (figure.stable && found[figure.key] === shown[figure.key]) found[figure.key] = figure.stable;
    for (const key of Object.keys(found)) found[key] = found[key].replace(/\{b\d\}/, `{b_${key.slice(4, 6)}}`);
    return found;
  }

  /* Formulas as instructions [operation, result, a, b] on registers. */
  function compile(formulas) {
    const registers = new Map();
    const literals = [];
    const register = (name) => {
      if (!registers.has(name)) registers.set(name, registers.size);
      return registers.get(name);
    };
    const code = [];
    function place(tree, into) {
      if (typeof tree === "string") return register(tree);
      if (typeof tree === "number") {
        const name = `=${tree}`;
        if (!registers.has(name)) literals.push([register(name), tree]);
        return register(name);
      }
      const [operation, ...parts] = tree;
      const [a, b = 0] = parts.map((part) => place(part));
      const result = into === undefined ? register(`#${registers.size}`) : into;
      code.push([operation, result, a, b]);
      return result;
    }
    for (const key of ordered(formulas)) {
      const tree = parse(formulas[key]);
      const into = register(key);
      if (Array.isArray(tree)) place(tree, into);
      else code.push(["copy", into, place(tree), 0]);
    }
    return { code, registers, literals };
  }

  /*
   * A round as a program: `evaluate(A, network)` gives the network's numbers and every figure, `advance(network, rounds)`
   * the network after a number of rounds in binary64, `next(figures)` the network that the next round starts from. A
   * judge, who evaluates often, has all registers of a round by `first` and `second`, and one of them by `pick`.
   */
  function program(figures, recipe, rules, stable = true) {
    const formulas = ofRound(figures, recipe, rules, stable);
    const { code, registers, literals } = compile(formulas);
    const keys = Object.keys(formulas);
    const moving = MOVING.filter((name) => Object.hasOwn(formulas, `${name}@1`));
    const given = [...registers.keys()].filter((name) => !/^[=#]/.test(name) && !Object.hasOwn(formulas, name));

    /* The operations of an arithmetic, instruction by instruction. */
    const bound = new WeakMap();
    function operations(A) {
      if (!bound.has(A)) bound.set(A, code.map(([operation]) => (operation === "copy" ? (a) => a : A[operation])));
      return bound.get(A);
    }

    /* All registers after a round from them. */
    function run(A, values) {
      const made = operations(A);
      for (let k = 0; k < code.length; k++) values[code[k][1]] = made[k](values[code[k][2]], values[code[k][3]]);
      return values;
    }

    /* All registers after a round from a network. */
    function first(A, network) {
      const values = Array(registers.size).fill(0);
      for (const [at, x] of literals) values[at] = A.literal(x);
      for (const name of [...given, ...moving]) values[registers.get(name)] = network[name];
      return run(A, values);
    }

    /* All registers after the round that follows. */
    function second(A, before) {
      const values = [...before];
      for (const name of moving) values[registers.get(name)] = before[registers.get(`${name}@1`)];
      return run(A, values);
    }

    function evaluate(A, network) {
      const values = first(A, network);
      const found = { ...network };
      for (const key of keys) found[key] = values[registers.get(key)];
      return found;
    }

    /* The same on plain numbers, without a call for each operation: 10,000 rounds between two frames of a screen. */
    function advance(network, rounds) {
      const v = new Float64Array(registers.size);
      for (const [at, x] of literals) v[at] = x;
      for (const name of given) v[registers.get(name)] = network[name];
      for (const name of moving) v[registers.get(name)] = network[name];
      const moves = moving.map((name) => [registers.get(name), registers.get(`${name}@1`)]);
      for (let n = 0; n < rounds; n++) {
        for (const instruction of code) {
          const [operation, result, a, b] = instruction;
          if (operation === "mul") v[result] = v[a] * v[b];
          else if (operation === "add") v[result] = v[a] + v[b];
          else if (operation === "sub") v[result] = v[a] - v[b];
          else if (operation === "copy") v[result] = v[a];
          else v[result] = Arithmetic.FLOATS[operation](v[a], v[b]);
        }
        for (const [to, from] of moves) v[to] = v[from];
      }
      return { ...network, ...Object.fromEntries(moving.map((name) => [name, v[registers.get(name)]])) };
    }

    const next = (found) => {
      const network = { ...found };
      for (const name of moving) network[name] = found[`${name}@1`];
      return network;
    };
    const pick = (values, name) => values[registers.get(name)];
    return { evaluate, advance, next, first, second, pick };
  }

  return { MOVING, UNITS, operands, ordered, program, rewrite };
})();
