"use strict";

/*
 * The judgement of a figure worked out by hand. No part of it knows of the page; it runs under Node as well.
 * `parity/example/typed_figure.py` judges in the same way; a test holds the two together.
 */
const Judging = (() => {
  const { abs, cutsTo, exact, nearest, places } = Digits;
  const { BINARY, FLOATS, LOSS, decimals } = Arithmetic;

  // The most decimals that anybody is thought to carry; and with as many significant digits a figure does not meet
  // another one by chance.
  const MOST = 12;
  const TELLING = 6;

  const PROGRAMS = new WeakMap();

  const plural = (n) => `${new Intl.NumberFormat("en").format(n)} update${n === 1 ? "" : "s"}`;

  /* The rules that make a recipe's formulas. */
  const recipeRules = (known, { order, biases }) => [
    ...(order === "sequential" ? known.sequential : []),
    ...(biases === "layer" ? known.shared : []),
  ];

  /* The known mistakes of these figures, seen from a recipe: { key, hint, answer, recipe, rules }. */
  function mistakes(known, figures, recipe) {
    const found = [];
    for (const biases of Object.keys(known.biases)) {
      const other = biases !== recipe.biases;
      const [hint, text] = known.whichBiases;
      const answer = text.replace("{theirs}", known.biases[biases]).replace("{ours}", known.biases[recipe.biases]);
      const add = (order, key, hint_, answer_) =>
        found.push({ key, hint: hint_, answer: answer_, recipe: { order, biases }, rules: [] });
      if (other) add("simultaneous", `biases-${biases}`, hint, answer);
      const [early, late] = known.tooEarly;
      if (other) add("sequential", `updated-weights-biases-${biases}`, `${early} ${hint}`, `${late} ${answer}`);
      else add("sequential", "updated-weights", early, late);
    }
    const formulas = Object.fromEntries(figures.filter((f) => f.template).map((f) => [f.key, f.template]));
    const seen = new Set([JSON.stringify(formulas)]);
    for (const mistake of known.mistakes) {
      const changed = JSON.stringify(Formulas.rewrite(formulas, mistake.rules));
      if (seen.has(changed)) continue;
      seen.add(changed);
      found.push({ ...mistake, recipe });
    }
    return found;
  }

  /*
   * Judges figures of the round at a network, of the one after it, and of the end of its training.
   *
   * known: what there is to know of mistakes, as the page's data have it. figures: the model's. start: the network.
   * biases: how they move; the truth is that of simultaneous updates. certified: the certified value of a figure by a
   * recipe as `exact` has it, null where there is none. published: printed figures of this network.
   */
  class Judge {
    constructor({ known, figures, start, biases, certified = () => null, published = [] }) {
      Object.assign(this, { known, list: figures, start, certified, published });
      this.figures = new Map(figures.map((figure) => [figure.key, figure]));
      this.recipe = { order: "simultaneous", biases };
      this.kept = new Map();
    }

    memo(key, make) {
      if (!this.kept.has(key)) this.kept.set(key, make());
      return this.kept.get(key);
    }

    get mistakes() {
      return this.memo("mistakes", () => mistakes(this.known, this.list, this.recipe));
    }

    /* A round as a program, made once for all judges of the same figures. */
    program(recipe, mistake, stable) {
      if (!PROGRAMS.has(this.list)) PROGRAMS.set(this.list, new Map());
      const made = PROGRAMS.get(this.list);
      const key = `${recipe.order} ${recipe.biases} ${mistake ? mistake.key : ""} ${stable}`;
      if (!made.has(key)) {
        const rules = [...recipeRules(this.known, recipe), ...(mistake ? mistake.rules : [])];
        made.set(key, Formulas.program(this.list, recipe, rules, stable));
      }
      return made.get(key);
    }

    /* A figure, or a number of the network, in one of the first two rounds. */
    inRound(n, name, A, how, recipe, mistake) {
      const program = this.program(recipe, mistake, A === FLOATS || A === BINARY);
      const rounds = this.memo(`${how} ${recipe.order} ${recipe.biases} ${mistake ? mistake.key : ""}`, () => []);
      if (!rounds.length) {
        const lifted = this.memo(`network ${how}`, () =>
          Object.fromEntries(Object.entries(this.start).map(([key, x]) => [key, A.number(x)])),
        );
        rounds.push(program.first(A, lifted));
      }
      if (n && rounds.length < 2) rounds.push(program.second(A, rounds[0]));
      return program.pick(rounds[n], name);
    }

    after(updates, recipe, mistake) {
      return this.memo(`${updates} ${recipe.order} ${recipe.biases} ${mistake ? mistake.key : ""}`, () => {
        const program = this.program(recipe, mistake, true);
        return program.evaluate(FLOATS, program.advance(this.start, updates));
      });
    }

    /* The figure in binary64; `updates`: after another number of them than its own. */
    value(key, recipe = this.recipe, mistake = null, updates = this.figures.get(key).updates) {
      const [name] = key.split("@");
      if (updates < 2) return this.inRound(updates, name, FLOATS, "floats", recipe, mistake);
      return this.after(updates, recipe, mistake)[name];
    }

    /*
     * How far the figure may be off with this many decimals kept, rounded or cut off; Infinity: those of binary64. Past
     * the second round, anything.
     */
    bound(key, kept, recipe = this.recipe, mistake = null, cut = false) {
      const { updates } = this.figures.get(key);
      if (updates > 1) return kept === Infinity ? 0 : Infinity;
      const A = kept === Infinity ? BINARY : this.memo(`A ${kept} ${cut}`, () => decimals(kept, cut ? 10 ** -kept : undefined));
      return this.inRound(updates, key.split("@")[0], A, `${kept} ${cut}`, recipe, mistake).e;
    }

    /* The truth of a figure, and how far it may be off: by nothing if it is certified. */
    truth(key) {
      return this.memo(`truth ${key}`, () => {
        const certified = this.certified(key, this.recipe);
        if (certified !== null) return [certified, 0n];
        const blur = this.bound(key, Infinity);
        return [exact(this.value(key)) ?? 0n, exact(Math.min(blur, Digits.LIMIT))];
      });
    }

    /*
     * What a typed figure is at a step: { kind, truth, certified, off, carried, cut, blind, mistakes }.
     *
     * kind: "right": the truth, rounded to as many decimals as were typed. "cut": the truth, cut off there. "carried":
     * explained by decimals kept on the way, and by no mistake better. "mistake": explained by known mistakes better
     * than by decimals. "unexplained".
     * carried, cut: the most decimals that explain it, rounded and cut off on the way. blind: so few that 0 would pass.
     * mistakes: all that yield every digit; if none does, those that explain it with more decimals carried than rounding
     * alone does, or with as many as were typed; the best first.
     */
    judge(key, typed) {
      const [truth, blur] = this.truth(key);
      const float = this.value(key);
      const off = nearest(typed.exact - truth);
      const said = { truth, certified: blur === 0n, off, carried: 0, cut: 0, blind: false, mistakes: [] };
      if (roundsTo(truth, typed, blur)) return { kind: "right", ...said };
      if (cutsTo(truth, typed.exact, typed.places)) return { kind: "cut", ...said };

      const last = 10 ** -typed.places / 2;
      const distance = Math.abs(off);
      said.carried = this.carried(key, distance, last, this.recipe, null, false);
      said.cut = this.carried(key, distance, last, this.recipe, null, true);
      const kept = Math.max(said.carried, said.cut);
      said.blind = kept > 0 && this.bound(key, kept, this.recipe, null, said.carried < said.cut) >= Math.abs(float);
      said.mistakes = this.mistaken(key, typed, last, float, Math.max(1, Math.min(kept + 1, typed.places)));
      if (kept < typed.places) said.mistakes.push(...this.misprinted(key, typed));
      const better = said.mistakes.some((m) => m.carried > kept);
      // What is written with more than twice the decimals was not made of them: a product of two has twice as many.
      const enough = 2 * kept >= typed.places;
      if (kept && enough && (kept >= typed.places || (!better && !said.blind))) return { kind: "carried", ...said };
      return { kind: said.mistakes.length ? "mistake" : "unexplained", ...said };
    }

    /*
     * The same, and where else in the computation the figure stands: { ...judgement, places }. Its kind is "elsewhere"
     * where that explains it and no mistake at this step does. A figure of few digits is not looked for elsewhere.
     */
    recognise(key, typed) {
      const said = this.judge(key, typed);
      if (said.kind === "right" || said.kind === "cut" || typed.digits < TELLING) return { ...said, places: [] };
      const exactly = said.mistakes.some((m) => m.carried === Infinity);
      const places = this.places(typed, key).filter((place) => place.kind === "right" || !exactly);
      return { ...said, kind: places.length && !exactly ? "elsewhere" : said.kind, places };
    }

    /* The most decimals that, kept on the way, explain a distance from a recipe's figure, of those from `least`; or 0. */
    carried(key, distance, last, recipe, mistake, cut, least = 1) {
      const explains = (kept) => distance <= this.bound(key, kept, recipe, mistake, cut) + last;
      if (this.figures.get(key).updates > 1 || !explains(least)) return 0;
      let kept = least;
      while (kept < MOST && explains(kept + 1)) kept++;
      return kept;
    }

    /* The mistakes that yield a value, each with the most decimals kept on the way, from `least`: Infinity for all. */
    mistaken(key, typed, last, truth, least) {
      const found = [];
      const figure = this.figures.get(key);
      const consider = (mistake, made, updates) => {
        const x = this.value(key, mistake.recipe, made, updates);
        if (x === truth || !Number.isFinite(x)) return;
        const distance = Math.abs(typed.value - x);
        const blur = updates === undefined ? this.bound(key, Infinity, mistake.recipe, made) : 0;
        const exactly = distance <= last * (1 + LOSS) + blur;
        if (exactly || cutsTo(exact(x), typed.exact, typed.places)) {
          found.push({ ...mistake, carried: Infinity, cut: !exactly });
          return;
        }
        if (updates !== undefined) return;
        const from = Math.max(least, Math.ceil(typed.places / 2));
        const carried = this.carried(key, distance, last, mistake.recipe, made, false, from);
        const sees = carried && this.bound(key, carried, mistake.recipe, made) < Math.abs(x);
        if (sees) found.push({ ...mistake, carried, cut: false });
      };
      for (const mistake of this.mistakes) consider(mistake, mistake);
      if (figure.updates > 0 && figure.section === "after") {
        for (const [by, words] of [
          [-1, "one too few"],
          [1, "one too many"],
        ]) {
          const n = figure.updates + by;
          const answer = `It is this recipe's figure after ${plural(n)}, ${words}.`;
          const mistake = { key: `updates${by}`, hint: "How many updates were made?", answer, recipe: this.recipe };
          consider(mistake, null, n);
        }
      }
      const exactly = found.filter((m) => m.carried === Infinity);
      return exactly.length ? exactly : found.sort((a, b) => b.carried - a.carried);
    }

    /* A digit too many: with one decimal less, it would be some recipe's figure. */
    misprinted(key, { text, digits }) {
      const point = text.indexOf(".");
      if (point < 0 || /e/i.test(text) || digits < TELLING) return [];
      const found = [];
      const shorter = new Set(
        [...text.slice(point + 1)].map((_, k) => text.slice(0, point + 1 + k) + text.slice(point + 2 + k)),
      );
      for (const order of ["simultaneous", "sequential"]) {
        const whole = exact(this.value(key, { order, biases: this.recipe.biases }));
        if (whole === null || places(whole, text.length - point - 1) === text) continue;
        for (const other of shorter) {
          if (places(whole, other.length - point - 1) !== other) continue;
          const words =
            order === "sequential" ? "the figure that one gets with weights updated too early" : "the right figure";
          const answer = `One digit too many: ${other} is ${words}.`;
          found.push({ key: `misprint-${order}`, hint: "Count the digits.", answer, carried: Infinity, cut: false });
        }
      }
      return found;
    }

    /*
     * Every figure that has the digits of a typed one, except the step `but`: { figure, kind, cut, published, mistake }.
     * First the right ones, else those in print, and those that a known mistake yields. Mistakes are looked for if the
     * typed figure has enough digits not to meet one by chance. Of fewer digits, a figure cut off is looked for where
     * none is rounded to them.
     */
    places(typed, but = "") {
      const keys = this.list.map(({ key }) => key).filter((key) => key !== but);
      const right = this.right(typed, keys);
      if (right.length) return right;
      if (typed.digits < TELLING)
        return keys
          .filter((key) => cutsTo(this.truth(key)[0], typed.exact, typed.places))
          .map((figure) => ({ figure, kind: "right", cut: true }));
      const printed = this.published
        .filter((p) => keys.includes(p.key) && Digits.parse(p.text).exact === typed.exact)
        .map((published) => ({ figure: published.key, kind: "printed", cut: false, published }));
      const there = new Set(printed.map(({ figure }) => figure));
      return [...printed, ...this.byMistake(typed, keys).filter(({ figure }) => !there.has(figure))];
    }

    right(typed, keys) {
      const found = [];
      for (const key of keys) {
        const [truth, blur] = this.truth(key);
        if (roundsTo(truth, typed, blur)) found.push({ figure: key, kind: "right", cut: false });
        else if (typed.digits >= TELLING && cutsTo(truth, typed.exact, typed.places))
          found.push({ figure: key, kind: "right", cut: true });
      }
      return found;
    }

    byMistake(typed, keys) {
      const found = [];
      const told = new Set();
      for (const mistake of this.mistakes) {
        for (const key of keys) {
          // What takes a whole training is looked for in the recipes alone.
          if (told.has(key) || (this.figures.get(key).updates > 1 && mistake.rules.length)) continue;
          const x = this.value(key, mistake.recipe, mistake);
          if (!Number.isFinite(x) || x === this.value(key)) continue;
          const exactly = roundsTo(exact(x), typed, 0n);
          if (!exactly && !cutsTo(exact(x), typed.exact, typed.places)) continue;
          told.add(key);
          found.push({ figure: key, kind: "mistake", cut: !exactly, mistake });
        }
      }
      return found;
    }
  }

  /* Whether the truth, known but for `blur`, rounds to the typed figure. */
  function roundsTo(truth, typed, blur) {
    const half = 10n ** BigInt(Digits.PLACES - typed.places) / 2n;
    return abs(typed.exact - truth) <= half + blur;
  }

  return { Judge, TELLING, mistakes, recipeRules };
})();
