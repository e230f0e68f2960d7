"use strict";

/* Decimals, exactly: numbers as integers times 10^-PLACES, how they are spelled, and how they are read. */
const Digits = (() => {
  const PLACES = 100;
  const ONE = 10n ** BigInt(PLACES);
  const LIMIT = 1000;
  const abs = (a) => (a < 0n ? -a : a);

  /* A binary64 number, cut off after PLACES decimals; null for what is not finite. */
  function exact(x) {
    if (!Number.isFinite(x)) return null;
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

  /* A number of significant digits, spelled as `parity` does. */
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

  /* Rounded to n decimals. */
  function places(a, n) {
    const text = quotient(abs(a), 10n ** BigInt(PLACES - n))
      .toString()
      .padStart(n + 1, "0");
    const sign = a < 0n && /[1-9]/.test(text) ? "-" : "";
    return sign + text.slice(0, text.length - n) + (n ? "." + text.slice(-n) : "");
  }

  /* Whether `truth` is `given` when it is cut off after n decimals, and that is not 0. */
  function cutsTo(truth, given, n) {
    const unit = 10n ** BigInt(PLACES - n);
    return given !== 0n && (truth / unit) * unit === given;
  }

  /* Two spellings of a number, the first split where they part. */
  function mark(text, reference) {
    let agree = 0;
    while (agree < Math.min(text.length, reference.length) && text[agree] === reference[agree]) agree++;
    return [text.slice(0, agree), text.slice(agree)];
  }

  /* What was typed: { text, value, exact, places, digits }. Throws an Error that says what was expected and what came. */
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
    const decimals = fraction.length - Number(power);
    if (decimals > PLACES || text.length > PLACES) throw new Error(`Expected at most ${PLACES} decimals; got more.`);
    const size = BigInt(whole + fraction) * 10n ** BigInt(PLACES - decimals);
    return {
      text,
      value: Number(text),
      exact: sign === "-" ? -size : size,
      places: Math.max(decimals, 0),
      digits: text.replace(/e.*/i, "").replace(/[-+.]/g, "").replace(/^0+/, "").length,
    };
  }

  return { LIMIT, ONE, PLACES, abs, cutsTo, exact, mark, nearest, parse, places, significant };
})();
