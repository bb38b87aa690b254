// Runs an artifact in the browser: fetches requests from the bridge (validate/bridges/browser.py), which speaks
// the protocol of validate/runner/protocol.py, and posts the answers. One model, one request at a time; after an
// error the bridge ends the browser.

const PROGRESS_EVERY_MS = 1000;
const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array };

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
// {loadMs, inputs, outputs, infer: async (typed array, shape) -> typed array}, its clock running only while the
// model is opened: the library is there before, and so are the model's bytes.

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
  const [input, output] = [session.inputNames[0], session.outputNames[0]];
  const infer = async (image, shape) => {
    const answers = await session.run({ [input]: new ort.Tensor(inputs[0].dtype, image, shape) });
    return answers[output].data;
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
  const infer = async (image, shape) => {
    const input = new litert.Tensor(image, shape);
    const answers = [];
    try {
      answers.push(...await compiled.run([input]));
      return answers[0].toTypedArray();
    } finally {
      // Tensors lie in the memory of the WebAssembly, which no garbage collector tends.
      for (const tensor of [input, ...answers]) tensor.delete();
    }
  };
  return {
    loadMs, inputs: compiled.getInputDetails().map(specification),
    outputs: compiled.getOutputDetails().map(specification), infer,
  };
}

const OPENERS = { "onnxruntime-web": openOnnxRuntime, "litert-web": openLiteRt };

// ---- the requests

let loaded = null;
let firstMs = null;

function image(bytes, index, shape) {
  const Kind = ARRAYS[loaded.inputs[0].dtype];
  const values = shape.reduce((product, size) => product * size, 1);
  return new Kind(bytes.buffer, index * values * Kind.BYTES_PER_ELEMENT, values);
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

  // All images, `piece` of them fetched at a time; shape is one image's, with its batch of 1.
  async run({ images, piece, shape }) {
    let told = performance.now();
    for (let start = 0; start < images; start += piece) {
      const stop = Math.min(start + piece, images);
      const bytes = await bytesOf(`images/${start}/${stop}`);
      const answers = [];
      for (let index = 0; index < stop - start; index += 1) {
        answers.push(await loaded.infer(image(bytes, index, shape), shape));
        if (performance.now() - told >= PROGRESS_EVERY_MS) {
          await say({ progress: start + index + 1 });
          told = performance.now();
        }
      }
      await post("outputs", new Blob(answers));
    }
    return {};
  },

  // The first image, up to `runs` times. performance.now() steps by 5 microseconds in an isolated page, so a
  // single sample below about half a millisecond is off by more than 1 %; over many samples the steps even out.
  // JavaScript cannot hold back its garbage collector, so its pauses are in the samples, as they are for users.
  async time({ runs, seconds, discarded, shape }) {
    const input = image(await bytesOf("images/0/1"), 0, shape);
    let left = discarded;
    if (firstMs === null) {
      const start = performance.now();
      await loaded.infer(input, shape);
      firstMs = performance.now() - start;
      left -= 1;
    }
    for (; left > 0; left -= 1) await loaded.infer(input, shape);
    const samples = [];
    const end = performance.now() + seconds * 1000;
    while (samples.length < runs) {
      const start = performance.now();
      await loaded.infer(input, shape);
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
