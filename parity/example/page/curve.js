"use strict";

/*
 * The error against the number of updates, on logarithmic axes. The slider below it has the same axis: from 1 to the last
 * update by powers of ten; what is before the first update stands apart, as a logarithm has no place for 0.
 */
const Curve = (() => {
  const { line, svg, text } = Drawing;
  const SIZE = { height: 170, top: 8, bottom: 24, left: 10, right: 52 };
  // Of the width, what lies between 0 and 1.
  const APART = 0.07;

  /* Where a number of updates stands, from 0 to 1. */
  const place = (n, last) => (n < 1 ? 0 : APART + (1 - APART) * (Math.log10(n) / Math.log10(last)));

  /* The number of updates among `positions` that is nearest to a place; round ones attract a little. */
  function nearest(where, positions) {
    const last = positions[positions.length - 1];
    const isRound = (n) => /^[125]0*$/.test(String(n));
    let best = 0;
    let least = Infinity;
    positions.forEach((n, k) => {
      const distance = Math.abs(place(n, last) - where) - (isRound(n) ? 0.004 : 0);
      if (distance < least) [best, least] = [k, distance];
    });
    return best;
  }

  /* 0, the powers of ten, and half of the last one where there is room. */
  function ticks(last, wide) {
    const found = [0];
    for (let n = 1; n <= last; n *= 10) found.push(n);
    if (wide) found.push(last / 20, last / 2);
    return found;
  }

  /*
   * errors: a series for each recipe, over positions; the last one is brought out. n: the number of updates that is
   * shown. dot: the error there, or null where it is hidden. A tick carries its number of updates as data-at.
   */
  function draw({ width, positions, errors, n, dot, title }) {
    const last = positions[positions.length - 1];
    const sizes = errors.flat().filter((e) => e > 0 && Number.isFinite(e));
    const powers = sizes.map(Math.log10);
    const low = sizes.length ? Math.floor(Math.min(...powers)) : -1;
    const high = Math.max(low + 1, sizes.length ? Math.ceil(Math.max(...powers)) : 0);
    const right = width - SIZE.right;
    const bottom = SIZE.height - SIZE.bottom;
    const x = (at) => SIZE.left + (right - SIZE.left) * place(at, last);
    const at = (power) => SIZE.top + ((bottom - SIZE.top) * (high - power)) / (high - low);
    const y = (e) => at(e > 0 ? Math.max(Math.log10(e), low) : low);
    const root = svg("svg", { viewBox: `0 0 ${width} ${SIZE.height}`, role: "img", "aria-label": title });

    for (let power = high; power >= low; power -= Math.ceil((high - low) / 6)) {
      const words = power < -4 || power > 4 ? `1e${power}` : String(10 ** power);
      root.append(
        line("axis", [SIZE.left, at(power)], [right + 4, at(power)]),
        text(words, right + 8, at(power) + 4, "start"),
      );
    }
    for (let power = 1; power < last; power *= 10)
      for (let digit = 1; digit < 10; digit++)
        root.append(line("axis", [x(digit * power), bottom], [x(digit * power), bottom + (digit > 1 ? 3 : 6)]));
    root.append(line("axis", [x(0), bottom], [x(0), bottom + 6]), line("axis", [x(last), bottom], [x(last), bottom + 6]));
    for (const tick of ticks(last, width > 560)) {
      const label = text(new Intl.NumberFormat("en").format(tick), x(tick), SIZE.height - 6, "middle", "tick");
      label.setAttribute("data-at", tick);
      root.append(label);
    }
    errors.forEach((series, r) => {
      const points = series
        .map((e, k) => (Number.isFinite(e) ? `${x(positions[k]).toFixed(1)},${y(e).toFixed(1)}` : ""))
        .filter((point, k) => point && positions[k] > 0)
        .join(" ");
      const kind = r === errors.length - 1 ? "path now" : "path";
      root.append(svg("polyline", { class: kind, points }));
      if (r === errors.length - 1 && positions[0] === 0 && Number.isFinite(series[0]))
        root.append(line(`${kind} before`, [x(0), y(series[0])], [x(1), y(series[0])]));
    });
    root.append(line("needle", [x(n), SIZE.top], [x(n), bottom]));
    if (dot !== null && Number.isFinite(dot)) root.append(svg("circle", { class: "dot", cx: x(n), cy: y(dot), r: 5 }));
    return root;
  }

  return { APART, draw, nearest, place };
})();
