"use strict";

/* What the page says: names and formulas as one writes them, and its sentences. Nothing here knows the page's state. */
const Words = (() => {
  const { html } = Drawing;

  const thousands = new Intl.NumberFormat("en").format;
  const count = (n) => `${thousands(n)} update${n === 1 ? "" : "s"}`;

  const decimals = (n) => `${n} decimal${n === 1 ? "" : "s"}`;

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
      .replace(/ \*\* 2/g, "\u00b2")
      .replace(/ \* /g, " \u00d7 ")
      .replace(/ - /g, " \u2212 ")
      .replace("(-{", "(\u2212{");
    return typeset.replace(/\{(.*?)\}/g, (_, key) => name(key));
  }

  const EXPLAINED = [
    [/^net/, "What enters the unit: each source times its weight, and the bias."],
    [/^out_.*@/, "What the network answers with its new weights."],
    [/^out/, "What leaves the unit: the net input, put through the sigmoid."],
    [/^E_/, "The error of one output: half the square of what it misses its target by."],
    [/^E@/, "The error of the network with its new weights."],
    [/^E$/, "The error of the whole network: both outputs together."],
    [/^dE\/dout_o/, "How the error moves with the output. The \u00bd has cancelled the 2 of the square."],
    [/^dout/, "The slope of the sigmoid, from its output alone."],
    [/^dE\/dnet/, "The chain rule, one link on. Many texts call this the unit\u2019s delta."],
    [/^dnet_.*\/dw/, "How the net input moves with the weight: by what comes along the edge."],
    [/^dE\/dw/, "The gradient of a weight: the delta of the unit it leads into, times what comes along the edge."],
    [/^dE\/db/, "The gradient of the unit\u2019s bias: its delta."],
    [
      /^dnet_.*\/dout/,
      "How an output\u2019s net input moves with a hidden unit: by the weight between them, the original one.",
    ],
    [/^dE_.*\/dout/, "What reaches the hidden unit of one output\u2019s delta."],
    [/^dE\/dout_h/, "The hidden unit acts on the error through both outputs: the two shares are added."],
    [/^w/, "The updated weight: against the gradient, as far as the learning rate says."],
  ];

  const explained = (key) => EXPLAINED.find(([pattern]) => pattern.test(key))[1];

  const HEADINGS = {
    right: "\u2713 Right",
    carried: "\u2248 Right method, too few decimals on the way",
    mistake: "\u2717 Not the figure",
    unexplained: "? Not explained",
  };

  /* What a printed figure is that is not right. */
  const PRINTED = { bug: "a bug\u2019s figure", slip: "off by a unit in its last digit", unsettled: "not this figure" };

  /* What is said of a figure that was typed with so many decimals, sentence by sentence. */
  function verdict(found, places) {
    const words = [];
    if (found.kind === "right") {
      words.push(places ? `To all ${decimals(places)} that you gave.` : "As a whole number.");
      return words;
    }
    if (found.kind === "carried") {
      words.push(
        found.carried
          ? `Consistent with having carried ${decimals(found.carried)} on the way, or fewer: rounding each result to so many may move the figure this far.`
          : `Consistent with having carried ${decimals(found.cut)} on the way, cut off instead of rounded.`,
      );
      if (found.carried && found.cut > found.carried) words.push(`Or ${found.cut}, cut off instead of rounded.`);
      if (found.blind) words.push("With so few decimals this figure is lost altogether: 0 would pass as well.");
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
    const kept = Math.max(found.carried, found.cut);
    if (kept && found.blind)
      words.push(
        `Only ${decimals(kept)} carried on the way would explain it without a mistake, and with so few this figure is lost altogether: 0 would pass as well.`,
      );
    else if (kept)
      words.push(`Without a mistake, it would take having carried no more than ${decimals(kept)} on the way.`);
    return words;
  }

  return { HEADINGS, PRINTED, count, decimals, explained, formula, lettered, thousands, verdict };
})();
