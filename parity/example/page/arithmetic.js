"use strict";

/*
 * The arithmetics that formulas are evaluated in: binary64, and that of somebody who keeps a few decimals. An arithmetic
 * is an object of operations; `number` takes a given number to it, `literal` one that stands in a formula.
 *
 * `parity/example/hand_arithmetic.py` is the same in Python; a test holds the two together.
 */
const Arithmetic = (() => {
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

  const FLOATS = {
    number: (x) => x,
    literal: (x) => x,
    add: (a, b) => a + b,
    sub: (a, b) => a - b,
    mul: (a, b) => a * b,
    div: (a, b) => a / b,
    neg: (a) => -a,
    square: (a) => a * a,
    exp: Math.exp,
    ln: Math.log,
    tanh: Math.tanh,
    sigmoid: (x) => 1 / (1 + Math.exp(-x)),
    softplus,
    relu: (x) => (x <= 0 ? 0 : x),
    step: (x) => (x > 0 ? 1 : 0),
  };

  // More than binary64 loses in an operation (half of 2^-52 of its result), and in exp, ln or tanh (4 units in the last
  // place).
  const LOSS = 2 ** -51;
  const FUNCTION_LOSS = 2 ** -50;

  /*
   * Numbers x with a bound e: whoever keeps decimals on the way ends within e of the exact figure. In this model each
   * result of an operation is either kept in full or rounded, by at most `unit`; so is a given number that has more
   * decimals than are kept.
   *
   * Product, quotient and functions: the operands' errors passed on, and one rounding of the result, unless exact
   * operands yield a result that needs none. Sum: the operands' bounds added. If every operand was rounded, the sum
   * has no more decimals than they; if one was not, the rounding that its bound allows for pays for that of the sum.
   *
   * With unit 0 the bound is that of binary64 itself.
   */
  function decimals(places, unit = 10 ** -places / 2) {
    const scale = 10 ** places;
    const fits = (x) => {
      const scaled = x * scale;
      return Math.abs(scaled - Math.floor(scaled + 0.5)) <= 4 * LOSS * Math.abs(scaled);
    };
    const made = (x, e) => ({ x, e: Number.isNaN(e) ? Infinity : e });
    const rounded = (x, e) => made(x, e === 0 && fits(x) ? 0 : e + unit + LOSS * Math.abs(x));
    const sum = (x, a, b) => made(x, a.e + b.e === 0 ? 0 : a.e + b.e + LOSS * Math.abs(x));
    const isOne = (a) => a.e === 0 && a.x === 1;
    const A = {
      number: (x) => rounded(x, 0),
      literal: (x) => ({ x, e: 0 }),
      add: (a, b) => sum(a.x + b.x, a, b),
      sub: (a, b) => sum(a.x - b.x, a, b),
      neg: (a) => ({ x: -a.x, e: a.e }),
      mul(a, b) {
        if (isOne(a)) return b;
        if (isOne(b)) return a;
        return rounded(a.x * b.x, Math.abs(a.x) * b.e + Math.abs(b.x) * a.e + a.e * b.e);
      },
      square: (a) => A.mul(a, a),
      div(a, b) {
        const size = Math.abs(b.x);
        if (!(b.e < size)) return made(a.x / b.x, Infinity);
        return rounded(a.x / b.x, ((Math.abs(a.x) * b.e) / size + a.e) / (size - b.e));
      },
      exp(a) {
        const z = Math.exp(a.x);
        return made(z, z * Math.expm1(Math.min(a.e, 700)) + unit + FUNCTION_LOSS * z);
      },
      ln(a) {
        const y = Math.log(a.x);
        const moved = a.e < a.x ? -Math.log1p(-a.e / a.x) : Infinity;
        return made(y, moved + unit + FUNCTION_LOSS * Math.abs(y));
      },
      tanh(a) {
        const slope = 1 - Math.tanh(Math.max(Math.abs(a.x) - a.e, 0)) ** 2;
        return made(Math.tanh(a.x), Math.min(a.e * slope, 2) + unit + FUNCTION_LOSS);
      },
      sigmoid(a) {
        const z = A.exp(A.neg(a));
        const y = 1 / (1 + z.x);
        const e = z.e * y < 1 ? (z.e * y * y) / (1 - z.e * y) : 1;
        // Whatever z became, the quotient lies between 0 and 1.
        return made(y, Math.min(1, Number.isNaN(e) ? 1 : e) + unit + LOSS);
      },
      softplus(a) {
        const y = softplus(a.x);
        return made(y, a.e + unit + FUNCTION_LOSS * (1 + y));
      },
      relu: (a) => made(Math.max(a.x, 0), a.x <= -a.e ? 0 : a.e),
      step: (a) => made(a.x > 0 ? 1 : 0, a.x > a.e || a.x <= -a.e ? 0 : 1),
    };
    return A;
  }

  return { FLOATS, BINARY: decimals(0, 0), LOSS, decimals };
})();
