// A multilayer perceptron in JavaScript, held against certified truth through both doors. It needs Node and nothing else:
//
//     parity run -k "Linear or Tanh or Network or SGD" --dtype float64 --engine "exec:node mlp.mjs"
//
//     parity export vectors -k Linear
//     node mlp.mjs vectors/linear.json > answers.json && parity judge answers.json
//
// Linear, Sigmoid, Tanh, ReLU, Sequential, MSELoss, HalfSquaredError and their Objective; SGD; training. In float64.
// docs/vectors.md describes what is read and written here. Over the pipe arrays are in base64, in files decimals.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

class Unsupported extends Error {}

const CLASSES = ["Linear", "Sigmoid", "Tanh", "ReLU", "Sequential", "MSELoss", "HalfSquaredError", "Objective", "SGD"];

// ---- tensors: {shape, v}, in C order

const NAMES = { inf: Infinity, "-inf": -Infinity, nan: NaN };

function read(array) {
  if (array.dtype !== "float64") throw new Unsupported(`no ${array.dtype}`);
  if (array.base64 !== undefined) {
    const bytes = Uint8Array.from(Buffer.from(array.base64, "base64"));
    return { shape: array.shape, v: new Float64Array(bytes.buffer) };
  }
  if (!array.decimal) throw new Unsupported("arrays outside of the JSON file");
  return { shape: array.shape, v: Float64Array.from(array.decimal, (d) => NAMES[d] ?? Number(d)) };
}

function write({ shape, v }, encoding) {
  if (encoding === "base64") return { dtype: "float64", shape, base64: Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString("base64") };
  const decimal = Array.from(v, (x) => (Number.isFinite(x) ? (Object.is(x, -0) ? "-0" : String(x)) : String(x).toLowerCase().replace("infinity", "inf")));
  return { dtype: "float64", shape, decimal };
}

const like = (t) => ({ shape: t.shape, v: new Float64Array(t.v.length) });
const map = (t, f) => ({ shape: t.shape, v: t.v.map(f) });

// ---- modules. Axes: n sample, i input unit, o output unit.

class Linear {
  constructor(args, arrays, path) {
    this.path = path;
    this.params = { weight: read(arrays[`${path}weight`]) };
    if (arrays[`${path}bias`]) this.params.bias = read(arrays[`${path}bias`]);
    this.clear();
  }

  clear() {
    this.grads = Object.fromEntries(Object.entries(this.params).map(([name, p]) => [name, like(p)]));
  }

  sizes(X) {
    const [O, I] = this.params.weight.shape;
    return [X.v.length / I, O, I];
  }

  // Y[n,o] = sum_i X[n,i] W[o,i] + b[o]
  forward(X) {
    const [N, O, I] = this.sizes(X), W = this.params.weight.v, b = this.params.bias?.v;
    const Y = { shape: [...X.shape.slice(0, -1), O], v: new Float64Array(N * O) };
    for (let n = 0; n < N; n++)
      for (let o = 0; o < O; o++) {
        let sum = 0;
        for (let i = 0; i < I; i++) sum += X.v[n * I + i] * W[o * I + i];
        Y.v[n * O + o] = b ? sum + b[o] : sum;
      }
    return Y;
  }

  // dX[n,i] = sum_o dY[n,o] W[o,i];  dW[o,i] += sum_n dY[n,o] X[n,i];  db[o] += sum_n dY[n,o]
  backward(X, dY) {
    const [N, O, I] = this.sizes(X), W = this.params.weight.v, dX = like(X);
    for (let n = 0; n < N; n++)
      for (let i = 0; i < I; i++) {
        let sum = 0;
        for (let o = 0; o < O; o++) sum += dY.v[n * O + o] * W[o * I + i];
        dX.v[n * I + i] = sum;
      }
    for (let o = 0; o < O; o++) {
      for (let i = 0; i < I; i++) {
        let sum = 0;
        for (let n = 0; n < N; n++) sum += dY.v[n * O + o] * X.v[n * I + i];
        this.grads.weight.v[o * I + i] += sum;
      }
      if (!this.grads.bias) continue;
      let sum = 0;
      for (let n = 0; n < N; n++) sum += dY.v[n * O + o];
      this.grads.bias.v[o] += sum;
    }
    return dX;
  }

  *linears() {
    yield this;
  }
}

// y = f(x), dx = f'(x) dy
class Elementwise {
  constructor(f, derivative) {
    this.f = f;
    this.derivative = derivative;
  }

  forward(X) {
    return map(X, this.f);
  }

  backward(X, dY) {
    return map(X, (x, k) => this.derivative(x, dY.v[k]));
  }

  *linears() {}
}

const sigmoid = (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
// tanh'(x) = 4 e^(-2|x|) / (1 + e^(-2|x|))^2 and s'(x) = s(x) s(-x) keep their digits far out, 1 - y^2 and y (1 - y) do not.
const slope = (x) => ((e) => (4 * e) / ((1 + e) * (1 + e)))(Math.exp(-2 * Math.abs(x)));

const ELEMENTWISE = {
  Sigmoid: [sigmoid, (x, g) => g * (sigmoid(x) * sigmoid(-x))],
  Tanh: [Math.tanh, (x, g) => g * slope(x)],
  ReLU: [(x) => (x <= 0 ? 0 : x), (x, g) => (x > 0 ? g : Number.isNaN(x) ? x : 0)],
};

class Sequential {
  constructor(spec, arrays, path) {
    this.different = spec.layers.map((layer, k) => build(layer, arrays, `${path}${spec.places.indexOf(k)}.`));
    this.layers = spec.places.map((k) => this.different[k]);
  }

  forward(X) {
    return this.layers.reduce((A, layer) => layer.forward(A), X);
  }

  backward(X, dY) {
    const inputs = [];
    for (const layer of this.layers) {
      inputs.push(X);
      X = layer.forward(X);
    }
    return this.layers.reduceRight((G, layer, k) => layer.backward(inputs[k], G), dY);
  }

  *linears() {
    for (const layer of this.different) yield* layer.linears();
  }
}

// L = c sum_k (y_k - t_k)^2, or each term by itself; dy_k = 2 c (y_k - t_k) dL
class SquaredError {
  constructor(half, reduction) {
    this.half = half ? 0.5 : 1;
    this.reduction = reduction;
  }

  divisor(Y) {
    return this.reduction === "mean" ? Y.v.length : 1;
  }

  forward(Y, T) {
    if (String(Y.shape) !== String(T.shape)) throw new Unsupported("targets that are broadcast");
    const terms = map(Y, (y, k) => (y - T.v[k]) ** 2);
    if (this.reduction === "none") return map(terms, (x) => this.half * x);
    return { shape: [], v: Float64Array.of((this.half * terms.v.reduce((a, b) => a + b, 0)) / this.divisor(Y)) };
  }

  backward(Y, T, dL) {
    const c = (2 * this.half) / this.divisor(Y);
    return map(Y, (y, k) => c * (y - T.v[k]) * dL.v[this.reduction === "none" ? k : 0]);
  }
}

function build(spec, arrays, path = "") {
  if (spec.type === "Linear") return new Linear(spec.args, arrays, path);
  if (spec.type === "Sequential") return new Sequential(spec, arrays, path);
  if (ELEMENTWISE[spec.type]) return new Elementwise(...ELEMENTWISE[spec.type]);
  throw new Unsupported(`no ${spec.type}`);
}

function buildLoss(spec) {
  if (spec.type === "MSELoss") return new SquaredError(false, spec.args.reduction ?? "mean");
  if (spec.type === "HalfSquaredError") return new SquaredError(true, spec.args.reduction ?? "sum");
  throw new Unsupported(`no ${spec.type}`);
}

// ---- the three kinds of record

const isLoss = (spec) => spec.type === "MSELoss" || spec.type === "HalfSquaredError";
const negative = (t) => map(t, (x) => -x);

function gradients(network, path = "") {
  const found = {};
  for (const layer of network.linears())
    for (const [name, g] of Object.entries(layer.grads)) found[`grad.${path}${layer.path}${name}`] = g;
  return found;
}

function vjp({ spec, arrays, inputs, grad_outputs }) {
  const [X, T] = inputs.map(read), [G] = grad_outputs.map(read);
  if (isLoss(spec)) {
    const loss = buildLoss(spec), output = loss.forward(X, T), dX = loss.backward(X, T, G);
    return { output, "grad_input.0": dX, "grad_input.1": negative(dX) };
  }
  if (spec.type === "Objective") {
    const own = Object.fromEntries(Object.entries(arrays).map(([name, a]) => [name.replace(/^network\./, ""), a]));
    const network = build(spec.layers[0], own), loss = buildLoss(spec.layers[1]);
    const Y = network.forward(X), output = loss.forward(Y, T), dY = loss.backward(Y, T, G);
    return { output, "grad_input.0": network.backward(X, dY), "grad_input.1": negative(dY), ...gradients(network, "network.") };
  }
  const module = build(spec, arrays);
  const output = module.forward(X), grad_input = module.backward(X, G);
  return { output, grad_input, ...gradients(module) };
}

const DEFAULTS = { lr: 1e-3, momentum: 0, dampening: 0, weight_decay: 0, nesterov: false, maximize: false };

// g = +-g + decay p;  v = momentum v + (1 - dampening) g, at first v = g;  p = p - lr (g + momentum v, or v, or g)
function step({ lr, momentum, dampening, weight_decay, nesterov, maximize }, p, gradient, state) {
  const first = !state.v;
  state.v ??= new Float64Array(p.length);
  for (let k = 0; k < p.length; k++) {
    let g = maximize ? -gradient[k] : gradient[k];
    if (weight_decay !== 0) g += weight_decay * p[k];
    if (momentum !== 0) {
      state.v[k] = first ? g : momentum * state.v[k] + (1 - dampening) * g;
      g = nesterov ? g + momentum * state.v[k] : state.v[k];
    }
    p[k] -= lr * g;
  }
}

// The rows of a series as one tensor with a leading axis.
function stack(shape, rows) {
  const size = shape.reduce((a, b) => a * b, 1), v = new Float64Array(rows.length * size);
  rows.forEach((row, k) => v.set(row, k * size));
  return { shape: [rows.length, ...shape], v };
}

function optimize({ spec, params, grads, groups = [], absent = {} }) {
  if (spec.type !== "SGD") throw new Unsupported(`no ${spec.type}`);
  const answer = {};
  for (const [name, array] of Object.entries(params)) {
    const options = { ...DEFAULTS, ...spec.args, ...groups.find((group) => group.names.includes(name))?.args };
    const { shape, v: p } = read(array), G = read(grads[name]), state = {}, moved = [], kept = [];
    for (let k = 0; k < G.shape[0]; k++) {
      const before = p.slice();
      // Without a gradient neither the parameter nor its state moves.
      if (!absent[name]?.includes(k)) step(options, p, G.v.subarray(k * p.length, (k + 1) * p.length), state);
      moved.push(p.map((x, e) => x - before[e]));
      if (state.v) kept.push(state.v.slice());
    }
    answer[`update.${name}`] = stack(shape, moved);
    if (options.momentum !== 0) answer[`state.${name}.momentum_buffer`] = stack(shape, kept);
  }
  return answer;
}

function train({ network: spec, loss: lossSpec, optimizer, arrays, inputs, targets, batches, trainable, state, ...more }) {
  for (const what of ["clip", "accumulate", "frozen", "rates", "masks"]) if (what in more) throw new Unsupported(`no ${what}`);
  if (optimizer.type !== "SGD") throw new Unsupported(`no ${optimizer.type}`);
  const network = build(spec, arrays), loss = buildLoss(lossSpec), options = { ...DEFAULTS, ...optimizer.args };
  const X = read(inputs), T = read(targets), losses = [], one = { shape: [], v: Float64Array.of(1) };
  const rows = ({ shape, v }, batch) => {
    const size = v.length / shape[0];
    return { shape: [batch.length, ...shape.slice(1)], v: stack([size], batch.map((k) => v.subarray(k * size, (k + 1) * size))).v };
  };
  const all = [...network.linears()].flatMap((layer) =>
    Object.entries(layer.params).map(([own, p]) => {
      const name = `${layer.path}${own}`, kept = state[`${name}.momentum_buffer`];
      return { name, own, layer, p, trained: trainable.includes(name), state: kept ? { v: read(kept).v } : {}, values: [p.v.slice()], states: [] };
    }),
  );
  for (const batch of batches) {
    const x = rows(X, batch), t = rows(T, batch);
    for (const layer of network.linears()) layer.clear();
    const y = network.forward(x);
    losses.push(Float64Array.of(loss.forward(y, t).v[0]));
    network.backward(x, loss.backward(y, t, one));
    for (const { own, layer, p, trained, state, values, states } of all) {
      if (trained) step(options, p.v, layer.grads[own].v, state);
      values.push(p.v.slice());
      if (trained) states.push(state.v.slice());
    }
  }
  const answer = { loss: stack([], losses) };
  for (const { name, p, trained, values, states } of all) {
    answer[`param.${name}`] = stack(p.shape, values);
    if (trained && options.momentum !== 0) answer[`state.${name}.momentum_buffer`] = stack(p.shape, states);
  }
  return answer;
}

// What answers a record: {answer} or {unsupported}.
function respond(record, encoding) {
  try {
    const found = { vjp, optimize, train }[record.kind](record);
    return { answer: Object.fromEntries(Object.entries(found).map(([name, t]) => [name, write(t, encoding)])) };
  } catch (error) {
    if (error instanceof Unsupported) return { unsupported: error.message };
    throw error;
  }
}

// ---- the two doors

async function serve() {
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity })[Symbol.asyncIterator]();
  const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
  await lines.next();
  say({ protocol: "parity-exec", version: 1, encoding: "base64", kinds: ["vjp", "optimize", "train"], classes: CLASSES, dtypes: ["float64"] });
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const record = JSON.parse(line.value);
    say({ id: record.id, ...respond(record, "base64") });
  }
}

function workThrough(path) {
  const document = JSON.parse(readFileSync(path, "utf8"));
  if (document.format !== "parity-vectors" || document.version !== 1) throw new Error("expected parity-vectors, version 1");
  const answers = [];
  for (const { case: name, family, dtype, record } of document.records) {
    const found = respond(record, "decimal");
    if (found.answer) answers.push({ case: name, family, dtype, ...found });
  }
  console.log(JSON.stringify({ format: "parity-answers", version: 1, engine: "mlp.mjs", answers }));
}

if (process.argv[2]) workThrough(process.argv[2]);
else await serve();
