"use strict";

/* What the page says: names and formulas as one writes them, and its sentences. Nothing here knows the page's state. */
const Words = (() => {
  const { html } = Drawing;

  const thousands = new Intl.NumberFormat("en").format;
  const count = (n) => `${thousands(n)} update${n === 1 ? "" : "s"}`;

  const decimals = (n) => `${n} decimal${n === 1 ? "" : "s"}`;

  const RAISED = { 1: "\u207d\u00b9\u207e", 2: "\u207d\u00b2\u207e" };

  /* A figure's or constant's name as one writes it, without its number of updates; the sample is raised. */
  function letters(key) {
    const [name] = key.split("@");
    const sample = (name.match(/:(\d)/) || [])[1];
    return name
      .replace(/:\d/, "")
      .replace(/(^|\/)d/g, "$1\u2202")
      .replace(/\|(o\d)$/, " through $1")
      .replace("eta", "\u03b7")
      .concat(sample ? RAISED[sample] : "");
  }

  /* A text with its subscripts set, as nodes. */
  function lettered(text) {
    return text
      .split(/(_[a-z]+\d|(?<![a-z_\d])[wbit]\d)/)
      .filter(Boolean)
      .map((part) =>
        /^_/.test(part)
          ? html("sub", {}, part.slice(1))
          : /^[wbit]\d$/.test(part)
            ? html("span", {}, part[0], html("sub", {}, part[1]))
            : part,
      );
  }

  /* A formula with each operand replaced by what `name` makes of it. */
  function formula(template, name) {
    const typeset = template
      .replace(/relu\((\{.*?\})\)/, "max(0, $1)")
      .replace(/step\((\{.*?\})\)/, "1 if $1 > 0, else 0")
      .replace(/ \*\* 2/g, "\u00b2")
      .replace(/ \* /g, " \u00d7 ")
      .replace(/ - /g, " \u2212 ")
      .replace(/(^|\()-\{/g, "$1\u2212{");
    return typeset.replace(/\{(.*?)\}/g, (_, key) => name(key));
  }

  const SLOPES = {
    sigmoid: "The slope of the sigmoid, from its output alone.",
    tanh: "The slope of tanh, from its output alone.",
    relu: "The slope of ReLU: 1 where the net input is positive, else 0.",
  };

  const EXPLAINED = [
    [/^net/, "What enters the unit: each source times its weight, and the bias."],
    [/^out_.*@/, "What the network answers with its new weights."],
    [/^out_o/, { squares: "What leaves the unit: the net input, put through the sigmoid.", "cross-entropy": "The softmax: this output\u2019s share of the sum of both exponentials." }],
    [/^out_h/, { sigmoid: "What leaves the unit: the net input, put through the sigmoid.", tanh: "What leaves the unit: the net input, put through tanh.", relu: "What leaves the unit: the net input, or 0 where that is negative." }],
    [/^E_/, { squares: "The error of one output: half the square of what it misses its target by.", "cross-entropy": "One output\u2019s part of the cross-entropy: its target times the logarithm of its share." }],
    [/^E@/, "The error of the network with its new weights."],
    [/^E:/, "The error of this sample: both outputs together."],
    [
      /^E$/,
      {
        one: "The error of the whole network: both outputs together.",
        batch: "The error of the batch: the mean of both samples\u2019 errors.",
      },
    ],
    [/^dE\/dout_o/, "How the error moves with the output. The \u00bd has cancelled the 2 of the square."],
    [/^dout_o/, SLOPES.sigmoid],
    [/^dout_h/, SLOPES],
    [/^dE\/dnet_o/, { squares: "The chain rule, one link on. Many texts call this the unit\u2019s delta.", "cross-entropy": "Softmax and cross-entropy together: the output times the sum of the targets, less the target. Where the targets sum to 1, that is out \u2212 t." }],
    [/^dE\/dnet/, "The chain rule, one link on. Many texts call this the unit\u2019s delta."],
    [/^dnet_.*\/dw/, "How the net input moves with the weight: by what comes along the edge."],
    [/^dE\/dw\d$/, { one: "The gradient of a weight: the delta of the unit it leads into, times what comes along the edge.", batch: "The gradient of the batch: the mean of what both samples ask for." }],
    [/^dE\/dw/, "What this sample asks of a weight: the delta of the unit it leads into, times what comes along the edge."],
    [/^dE\/db_..$/, { one: "The gradient of the unit\u2019s bias: its delta.", batch: "The gradient of the batch: the mean of what both samples ask for." }],
    [/^dE\/db/, "What this sample asks of the unit\u2019s bias: its delta."],
    [
      /^dnet_.*\/dout/,
      "How an output\u2019s net input moves with a hidden unit: by the weight between them, the original one.",
    ],
    [/^dE_.*\/dout|\|o/, "What reaches the hidden unit of one output\u2019s delta."],
    [/^dE\/dout_h/, "The hidden unit acts on the error through both outputs: the two shares are added."],
    [/^w/, "The updated weight: against the gradient, as far as the learning rate says."],
  ];

  /* A sentence on a figure of a model { hidden, error, samples }. */
  function explained(key, { hidden, error, samples }) {
    const [, words] = EXPLAINED.find(([pattern]) => pattern.test(key));
    return typeof words === "string" ? words : words[hidden] || words[error] || words[samples > 1 ? "batch" : "one"];
  }

  const HEADINGS = {
    right: "\u2713 Right",
    cut: "\u2248 Right, but cut off instead of rounded",
    carried: "\u2248 Right method, too few decimals on the way",
    mistake: "\u2717 Not the figure",
    elsewhere: "\u2192 Another step\u2019s figure",
    unexplained: "? Not explained",
  };

  /* What a printed figure is that is not right. */
  const PRINTED = {
    right: "right",
    bug: "a bug\u2019s figure",
    slip: "off by a unit in its last digit",
    unsettled: "not this figure",
  };

  /* What is said of a judged figure that was typed with `places` decimals, sentence by sentence. */
  function verdict(found, places) {
    const { kind, carried, cut, blind } = found;
    if (kind === "right") return [places ? `To all ${decimals(places)} that you gave.` : "As a whole number."];
    if (kind === "cut")
      return [
        `Your figure is the right one, cut off after ${decimals(places)}. Rounded, it is ${Digits.places(found.truth, places)}.`,
      ];
    const words = [];
    const blinded = "this figure is lost altogether: 0 would pass as well.";
    if (kind === "carried") {
      words.push(
        carried
          ? `It is what one may get who carried ${decimals(carried)} on the way: rounding each result to that many may move the figure this far.`
          : `It is what one may get who carried ${decimals(cut)} on the way, cut off instead of rounded.`,
      );
      if (carried && cut > carried) words.push(`Or ${cut}, cut off instead of rounded.`);
      if (blind) words.push(`With so few decimals ${blinded}`);
      return words;
    }
    const n = found.mistakes.length;
    words.push(
      n
        ? n > 1
          ? `${n} known mistakes explain it.`
          : "A known mistake explains it."
        : "None of the known mistakes yields it. Look for a slip of the pen, or at the step before.",
    );
    const kept = Math.max(carried, cut);
    const most = `no more than ${decimals(kept)}`;
    if (kept && blind)
      words.push(`Without a mistake, ${most} can have been carried on the way, and with so few ${blinded}`);
    else if (kept && 2 * kept < places)
      words.push(
        `Rounding does not explain it: ${most} would have to be carried on the way, and it was given with ${places}.`,
      );
    else if (kept) words.push(`Without a mistake, ${most} can have been carried on the way.`);
    return words;
  }

  return { HEADINGS, PRINTED, count, decimals, explained, formula, letters, lettered, thousands, verdict };
})();
