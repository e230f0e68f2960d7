"use strict";

/*
 * The network with its numbers, as inline SVG. What it says comes in as texts; nothing here knows a figure's value or
 * the page's state.
 */
const Drawing = (() => {
  function fill(element, attributes, ...children) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, ...children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, ...children);
  const text = (words, x, y, anchor, kind = "") => svg("text", { x, y, "text-anchor": anchor, class: kind }, words);
  const line = (kind, [x1, y1], [x2, y2]) => svg("line", { class: kind, x1, y1, x2, y2 });

  /* The network ---------------------------------------------------------------------------------------------------- */

  // Where the units' centres are, how large their boxes, what is free between two of them along the layers' axis, and
  // where in it a weight's label goes: so that no two of them meet.
  const WIDE = {
    size: [720, 366],
    at: { i1: [44, 64], i2: [44, 302], h1: [305, 64], h2: [305, 302], o1: [622, 64], o2: [622, 302], E: [622, 183] },
    box: { i: [84, 50], h: [186, 116], o: [192, 122], E: [170, 46] },
    gap: (from, to, [a], [b]) => [from[0] + a / 2, to[0] - b / 2],
    label: (from, to, straight, [left, right]) => [
      (left + right) / 2,
      from[1] + (straight ? 0 : 0.3 * (to[1] - from[1])),
    ],
  };
  const TALL = {
    size: [360, 628],
    at: { i1: [90, 30], i2: [270, 30], h1: [90, 225], h2: [270, 225], o1: [90, 455], o2: [270, 455], E: [180, 590] },
    box: { i: [110, 50], h: [166, 104], o: [166, 118], E: [170, 46] },
    gap: (from, to, [, a], [, b]) => [from[1] + a / 2, to[1] - b / 2],
    label: (from, to, straight, [top, bottom]) =>
      straight
        ? [from[0] < 180 ? 46 : 314, top + 0.72 * (bottom - top)]
        : [from[0] + 0.21 * (to[0] - from[0]), top + 0.21 * (bottom - top)],
  };

  const WEIGHTS = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => {
    const [layer, unit, source] = [(n - 1) >> 2, ((n - 1) >> 1) & 1, (n - 1) & 1];
    const [from, to] = [`${layer ? "h" : "i"}${source + 1}`, `${layer ? "o" : "h"}${unit + 1}`];
    return { key: `w${n}`, from, to, straight: unit === source };
  });

  /* The part of the drawing that a figure or constant is about. */
  function part(key) {
    const through = /dout_h(\d)\|o(\d)/.exec(key);
    if (through) return WEIGHTS.find(({ from, to }) => from === `h${through[1]}` && to === `o${through[2]}`).key;
    const weight = /w\d/.exec(key);
    if (weight) return weight[0];
    const both = /_o(\d)\/dout_h(\d)/.exec(key);
    if (both) return WEIGHTS.find(({ from, to }) => from === `h${both[2]}` && to === `o${both[1]}`).key;
    if (/^[it]\d/.test(key)) return key[0] === "i" ? key : `o${key[1]}`;
    const unit = /_([ho]\d)/.exec(key);
    return unit ? unit[1] : key[0];
  }

  /*
   * say: a figure or constant as a text, by its key. now, used: the parts to bring out. title: all of it in words.
   * name: the figure that a part leads to, by its key; the part carries it as data-step.
   */
  function network({ tall, say, now, used, title, name: named }) {
    const layout = tall ? TALL : WIDE;
    const mode = (name) => (name === now ? " now" : used.has(name) ? " used" : "");
    const [lines, labels, nodes] = [svg("g"), svg("g"), svg("g")];

    for (const { key, from, to, straight } of WEIGHTS) {
      const [a, b] = [layout.at[from], layout.at[to]];
      const [x, y] = layout.label(a, b, straight, layout.gap(a, b, layout.box[from[0]], layout.box[to[0]]));
      const edge = { class: `edge${mode(key)}`, "data-step": named(`dE/d${key}`) };
      lines.append(svg("g", edge, line("", a, b)));
      const gradient = text(`\u2202 ${say(`dE/d${key}`)}`, x, y + 13, "middle", "soft");
      labels.append(svg("g", edge, text(`${key} ${say(key)}`, x, y - 2, "middle"), gradient));
    }
    for (const o of ["o1", "o2"]) lines.append(svg("g", { class: "edge" }, line("", layout.at[o], layout.at.E)));

    const node = (name, step, rows) => {
      const [x, y] = layout.at[name];
      const [width, height] = layout.box[name[0]];
      const [left, right] = [x - width / 2, x + width / 2];
      const box = svg("rect", { x: left, y: y - height / 2, width, height, rx: 8 });
      const apart = Math.min(20, (height - 8) / rows.length);
      const texts = rows.flatMap(([label, words], k) => {
        const row = y + apart * (k - (rows.length - 1) / 2) + 4.5;
        return [text(label, left + 8, row, "start", k ? "soft" : "name"), text(words, right - 8, row, "end")];
      });
      nodes.append(svg("g", { class: `node${mode(name)}`, "data-step": named(step) }, box, ...texts));
    };
    for (const k of [1, 2]) {
      const net = (u) => [`net_${u}`, `out_${u}`].map((key) => [key.slice(0, 3), say(key)]);
      node(`i${k}`, "net_h1", [[`i${k}`, say(`i${k}`)]]);
      node(`h${k}`, `out_h${k}`, [
        [`h${k}`, `bias ${say(`b_h${k}`)}`],
        ...net(`h${k}`),
        ["\u2202E/\u2202out", say(`dE/dout_h${k}`)],
        ["\u2202E/\u2202net", say(`dE/dnet_h${k}`)],
      ]);
      node(`o${k}`, `out_o${k}`, [
        [`o${k}`, `bias ${say(`b_o${k}`)}`],
        ...net(`o${k}`),
        ["target", say(`t${k}`)],
        [`E_o${k}`, say(`E_o${k}`)],
        ["\u2202E/\u2202net", say(`dE/dnet_o${k}`)],
      ]);
    }
    node("E", "E", [["E", say("E")]]);
    return svg(
      "svg",
      { viewBox: `0 0 ${layout.size.join(" ")}`, role: "img", "aria-label": title },
      lines,
      labels,
      nodes,
    );
  }

  return { WEIGHTS, fill, html, line, network, part, svg, text };
})();
