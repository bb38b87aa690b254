// Classify pixels with ONNX Runtime Web, in a browser or in Node.js.
//
//     edgeship inspect --json MODEL.onnx > MODEL.json
//     node classify.mjs MODEL.onnx MODEL.json IMAGE.raw [WIDTH HEIGHT]
//
// ONNX Runtime Web does not hand out a model's metadata, so the preprocessing and the labels come from what
// `edgeship inspect` has read out of the same file. IMAGE.raw: width * height * channels bytes, row by row, RGB
// interleaved; without WIDTH and HEIGHT it has the model's own size. Prints the label and its probability.
import * as ort from "onnxruntime-web";

const ARRAYS = { int8: Int8Array, uint8: Uint8Array, float32: Float32Array };
const LIMITS = { int8: [-128, 127], uint8: [0, 255] };
const ONE = 2 ** 22; // the weights of a resize are integers of this unit, so that halves round as in Pillow
const float32 = Math.fround;

/** A picture of any size, `{ data, width, height }` with the model's channels -> the model's input tensor. */
export function prepare(image, spec) {
  const size = spec.image_size;
  const shown = spec.fit === "crop" ? centralSquare(image, spec.channels) : image;
  const pixels = resize(shown, size, spec.channels, spec.antialias);
  const { dtype, scale, zero_point: zeroPoint } = spec.input;
  const values = Float32Array.from(pixels, (pixel, index) => {
    const channel = index % spec.channels;
    return float32(float32(pixel / 255) - float32(spec.mean[channel])) / float32(spec.std[channel]);
  });
  const inputs = scale === null ? values : ARRAYS[dtype].from(values, (value) => {
    const integer = roundHalfToEven(float32(value / float32(scale))) + zeroPoint;
    return Math.min(Math.max(integer, LIMITS[dtype][0]), LIMITS[dtype][1]);
  });
  return new ort.Tensor(dtype, inputs, [1, size, size, spec.channels]);
}

/** The label and its probability; `description` is what `edgeship inspect --json` printed. */
export async function classify(session, image, { preprocessing: spec, labels }) {
  const outputs = await session.run({ [spec.input.name]: prepare(image, spec) });
  const { scale, zero_point: zeroPoint, name } = spec.output;
  let values = Array.from(outputs[name].data, (value) => (scale === null ? value : (value - zeroPoint) * scale));
  if (spec.output.values === "logits") values = softmax(values);
  const probability = Math.max(...values);
  return { label: labels[values.indexOf(probability)], probability };
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}

/** A browser's ImageData (RGBA) -> the pixels that `classify` takes; gray is luma of ITU-R 601, as in Pillow. */
export function pixelsOf({ data, width, height }, channels) {
  const pixels = new Uint8Array(width * height * channels);
  for (let at = 0; at < width * height; at++) {
    const [red, green, blue] = data.subarray(4 * at, 4 * at + 3);
    if (channels === 1) pixels[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else pixels.set([red, green, blue], 3 * at);
  }
  return { data: pixels, width, height };
}

function centralSquare({ data, width, height }, channels) {
  const side = Math.min(width, height);
  const left = Math.floor((width - side) / 2), top = Math.floor((height - side) / 2);
  const pixels = new Uint8Array(side * side * channels);
  for (let row = 0; row < side; row++) {
    const start = ((top + row) * width + left) * channels;
    pixels.set(data.subarray(start, start + side * channels), row * side * channels);
  }
  return { data: pixels, width: side, height: side };
}

/** Bilinear, rows first, then columns, as Pillow does; with antialiasing every pixel counts when shrinking. */
function resize({ data, width, height }, size, channels, antialias) {
  const across = tapsOf(width, size, antialias), down = tapsOf(height, size, antialias);
  const narrow = new Uint8ClampedArray(height * size * channels);
  const result = new Uint8ClampedArray(size * size * channels);
  const mix = (target, to, source, from, step, { start, weights }) => {
    let sum = 0;
    weights.forEach((weight, index) => { sum += weight * source[from + (start + index) * step]; });
    target[to] = Math.floor(sum / ONE + 0.5);
  };
  for (let row = 0; row < height; row++)
    for (let column = 0; column < size; column++)
      for (let channel = 0; channel < channels; channel++)
        mix(narrow, (row * size + column) * channels + channel,
          data, row * width * channels + channel, channels, across[column]);
  for (let row = 0; row < size; row++)
    for (let place = 0; place < size * channels; place++)
      mix(result, row * size * channels + place, narrow, place, size * channels, down[row]);
  return result;
}

/** For each of `to` places the inputs it is a mean of, out of `from`, and their weights: a triangle. */
function tapsOf(from, to, antialias) {
  const scale = from / to, reach = antialias ? Math.max(scale, 1) : 1; // without: the two nearest
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const start = Math.max(Math.floor(center - reach + 0.5), 0);
    const end = Math.min(Math.floor(center + reach + 0.5), from);
    const weights = Array.from({ length: end - start }, (_, index) =>
      Math.max(1 - Math.abs(start + index + 0.5 - center) / reach, 0));
    const sum = weights.reduce((total, weight) => total + weight);
    return { start, weights: weights.map((weight) => Math.round((weight / sum) * ONE)) };
  });
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

async function main([model, description, raw, width, height]) {
  const { readFile } = await import("node:fs/promises");
  const said = JSON.parse(await readFile(description, "utf8"));
  const size = said.preprocessing.image_size;
  const image = {
    data: new Uint8Array(await readFile(raw)), width: Number(width ?? size), height: Number(height ?? size),
  };
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(new Uint8Array(await readFile(model)));
  const { label, probability } = await classify(session, image, said);
  console.log(`${label}\t${probability.toFixed(4)}`);
}

// In a browser, import `classify` and `pixelsOf` instead.
if (typeof process !== "undefined" && process.argv[1]?.endsWith("classify.mjs")) await main(process.argv.slice(2));
