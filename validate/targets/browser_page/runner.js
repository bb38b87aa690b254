// Runs an artifact in the browser: fetches requests from the bridge (validate/bridges/browser.py), which speaks
// the protocol of validate/runner/protocol.py, and posts the answers. One model, one request at a time; after an
// error the bridge ends the browser.

const PROGRESS_EVERY_MS = 1000;
const ARRAYS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, uint8: Uint8Array, int16: Int16Array,
  uint16: Uint16Array, int32: Int32Array, uint32: Uint32Array, int64: BigInt64Array, uint64: BigUint64Array,
  bool: Uint8Array,
};

// An ONNX graph that hands a float through (IR version 8, opset 13).
const IDENTITY_ONNX =
  "CAgSADo3ChAKAXgSAXkiCElkZW50aXR5EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQDQ==";

const url = (path) => new URL(`../${path}`, import.meta.url).href;

async function get(path) {
  const response = await fetch(url(path));
  if (!response.ok) throw new Error(`GET ${path}: the bridge answered ${response.status}`);
  return response;
}

async function post(path, body) {
  const response = await fetch(url(path), { method: "POST", body });
  if (!response.ok) throw new Error(`POST ${path}: the bridge answered ${response.status}`);
}

const say = (message) => post("answer", JSON.stringify(message));
const bytesOf = async (path) => new Uint8Array(await (await get(path)).arrayBuffer());

// ---- the two libraries: each opener takes {model: Uint8Array, threads} and returns
// {loadMs, inputs, outputs, infer: async ([{data, shape}, ...]) -> [{data, shape}, ...]}, one typed array per input and
// output in the library's order, its clock running only while the model is opened: the library is there before, and so
// are the model's bytes.

async function openOnnxRuntime({ model, threads }) {
  const ort = await import(url("modules/onnxruntime-web/dist/ort.wasm.min.mjs"));
  ort.env.wasm.wasmPaths = url("modules/onnxruntime-web/dist/");
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const options = { executionProviders: ["wasm"] };
  // The library compiles its WebAssembly with the first session, which should not be the model's.
  const identity = Uint8Array.from(atob(IDENTITY_ONNX), (character) => character.charCodeAt(0));
  await (await ort.InferenceSession.create(identity, options)).release();
  if (ort.env.wasm.numThreads !== threads) throw new Error(`the library has only ${ort.env.wasm.numThreads} threads`);
  const start = performance.now();
  const session = await ort.InferenceSession.create(model, options);
  const loadMs = performance.now() - start;
  const specification = ({ name, type, shape }) => ({ name, shape: [...shape], dtype: type });
  const inputs = session.inputMetadata.map(specification);
  const infer = async (example) => {
    const tensors = example.map(({ data, shape }, place) => new ort.Tensor(inputs[place].dtype, data, shape));
    const answers = await session.run(Object.fromEntries(session.inputNames.map((name, place) => [name, tensors[place]])));
    return session.outputNames.map((name) => ({ data: answers[name].data, shape: [...answers[name].dims] }));
  };
  return { loadMs, inputs, outputs: session.outputMetadata.map(specification), infer };
}

async function openLiteRt({ model, threads }) {
  const litert = await import(url("modules/@litertjs/core/dist/index.js"));
  await litert.loadLiteRt(url("modules/@litertjs/core/wasm/"), { threads: threads > 1 });
  const start = performance.now();
  const compiled = await litert.loadAndCompile(model, { accelerator: "wasm", cpuOptions: { numThreads: threads } });
  const loadMs = performance.now() - start;
  const specification = ({ name, dtype, shape }) => ({ name, shape: [...shape], dtype });
  const outputs = compiled.getOutputDetails().map(specification);
  const infer = async (example) => {
    // Tensors lie in the memory of the WebAssembly, which no garbage collector tends.
    const tensors = [];
    try {
      for (const { data, shape } of example) tensors.push(new litert.Tensor(data, shape));
      const answers = await compiled.run(tensors.slice());
      tensors.push(...answers);
      return answers.map((tensor, place) => ({ data: tensor.toTypedArray(), shape: outputs[place].shape }));
    } finally {
      for (const tensor of tensors) tensor.delete();
    }
  };
  return { loadMs, inputs: compiled.getInputDetails().map(specification), outputs, infer };
}

const OPENERS = { "onnxruntime-web": openOnnxRuntime, "litert-web": openLiteRt };

// ---- the requests

let loaded = null;
let firstMs = null;

// The bytes of the examples from start to stop, one array per input.
const fetchExamples = (start, stop) =>
  Promise.all(loaded.inputs.map((_, place) => bytesOf(`examples/${place}/${start}/${stop}`)));

function exampleAt(index, bytes, shapes) {
  return shapes.map((shape, place) => {
    const Kind = ARRAYS[loaded.inputs[place].dtype];
    const values = shape.reduce((product, size) => product * size, 1);
    return { data: new Kind(bytes[place].buffer, index * values * Kind.BYTES_PER_ELEMENT, values), shape };
  });
}

const REQUESTS = {
  // -> how long opening took, the model's inputs and outputs, and what this browser is
  async load({ runtime, threads }) {
    if (threads > 1 && !crossOriginIsolated) throw new Error("this browser gives the page no threads");
    loaded = await OPENERS[runtime]({ model: await bytesOf("model"), threads });
    const browser = await navigator.userAgentData?.getHighEntropyValues(["fullVersionList"]);
    return {
      load_ms: loaded.loadMs, inputs: loaded.inputs, outputs: loaded.outputs,
      chromium: browser?.fullVersionList.find(({ brand }) => brand === "Chromium")?.version ?? null,
      facts: {
        user_agent: navigator.userAgent, cross_origin_isolated: crossOriginIsolated,
        hardware_concurrency: navigator.hardwareConcurrency,
      },
    };
  },

  // All examples, `piece` of them fetched at a time; shapes are one example's -> the shapes of one answer.
  async run({ count, piece, shapes }) {
    let told = performance.now();
    let found = [];
    for (let start = 0; start < count; start += piece) {
      const stop = Math.min(start + piece, count);
      const bytes = await fetchExamples(start, stop);
      const answers = [];
      for (let index = 0; index < stop - start; index += 1) {
        answers.push(await loaded.infer(exampleAt(index, bytes, shapes)));
        if (performance.now() - told >= PROGRESS_EVERY_MS) {
          await say({ progress: start + index + 1 });
          told = performance.now();
        }
      }
      for (const place of loaded.outputs.keys()) {
        await post(`outputs/${place}`, new Blob(answers.map((answer) => answer[place].data)));
      }
      found = answers[0].map(({ shape }) => shape);
    }
    return { shapes: found };
  },

  // The first example, up to `runs` times. performance.now() steps by 5 microseconds in an isolated page, so a
  // single sample below about half a millisecond is off by more than 1 %; over many samples the steps even out.
  // JavaScript cannot hold back its garbage collector, so its pauses are in the samples, as they are for users.
  async time({ runs, seconds, discarded, shapes }) {
    const example = exampleAt(0, await fetchExamples(0, 1), shapes);
    let left = discarded;
    if (firstMs === null) {
      const start = performance.now();
      await loaded.infer(example);
      firstMs = performance.now() - start;
      left -= 1;
    }
    for (; left > 0; left -= 1) await loaded.infer(example);
    const samples = [];
    const end = performance.now() + seconds * 1000;
    while (samples.length < runs) {
      const start = performance.now();
      await loaded.infer(example);
      const stop = performance.now();
      samples.push(Math.round((stop - start) * 1e6));
      if (stop >= end) break;
    }
    return { samples_ns: samples, first_ms: firstMs };
  },
};

// What was thrown, which in WebAssembly's world need not be an Error.
function described(error) {
  if (error instanceof Error) return { type: error.name, message: error.message };
  return { type: "Error", message: error instanceof Event ? `${error.target?.src} did not load` : String(error) };
}

async function serve() {
  for (;;) {
    const response = await get("next");
    if (response.status === 204) continue;
    const { do: request, ...content } = await response.json();
    try {
      await say({ ok: await REQUESTS[request](content) });
    } catch (error) {
      await say({ error: described(error) });
    }
  }
}

// The bridge knows by this connection that the page lives; a response nobody refers to would be collected.
globalThis.alive = await get("alive");
addEventListener("unhandledrejection", ({ reason }) => say({ error: described(reason) }));
await serve();
