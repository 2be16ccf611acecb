// Restores payloads beside the page, so that the page stays smooth; one after the other, tile by
// tile. Messages in: { id, blob, as: "bitmap" | "png", models, maxPixels }; out: { id } and either
// { done, total } after each tile, { result, header, seconds, provider }, or { error }.

import { RestoreError, readPayload } from "./payload.js";
import { tilesOf } from "./tiles.js";

const TILE = 768; // pixels of the picture a side, besides what tiles overlap by: memory follows it

let runtime = null; // of ONNX Runtime: { ort, providers }
const sessions = new Map(); // by the address of their file

async function start(withGpu) {
  const ort = await import(withGpu ? "./ort/ort.webgpu.min.mjs" : "./ort/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  // Threads share memory, which pages have only by the headers COOP and COEP.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  return { ort, provider: withGpu ? "webgpu" : "wasm" };
}

// A graphics card, that is: what a processor makes of WebGPU is slower than WASM by far.
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  return response;
}

// What `model.json` says of the decoder of a payload.
async function cardOf({ fingerprint, scale }, models) {
  const folder = new URL(`${fingerprint}/`, models).href;
  const response = await fetch(`${folder}model.json`);
  const unknown = (words) => new RestoreError("model", `made by model ${fingerprint}${words}`);
  if (!response.ok) throw unknown(", which this page does not have");
  const card = await response.json();
  const pair = card.pairs.find((one) => one.scale === scale);
  if (!pair) throw unknown(`, which has no scale ${scale}`);
  return { channels: card.channels, reach: pair.reach, url: folder + pair.file };
}

async function sessionOf(url) {
  if (!sessions.has(url)) {
    const file = new Uint8Array(await (await fetched(url)).arrayBuffer());
    const options = {
      executionProviders: [runtime.provider], logSeverityLevel: 3, // errors
      // Threads that wait busily take the cores from each other where others are at work too.
      extra: { session: { intra_op: { allow_spinning: "0" } } },
    };
    sessions.set(url, await runtime.ort.InferenceSession.create(file, options));
  }
  return sessions.get(url);
}

async function decoded(jpeg, header) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(jpeg, options).catch(() => {
    throw new RestoreError("damaged", "damaged: its JPEG cannot be decoded");
  });
  const sides = [header.width, header.height].map((side) => Math.ceil(side / header.scale));
  if (bitmap.width !== sides[0] || bitmap.height !== sides[1])
    throw new RestoreError("damaged", "damaged: its JPEG has another size than its header says");
  return bitmap;
}

// Copies pixels from one layout to another: `from` and `to` are samples a pixel, 1, 3 or 4.
function reshaped(source, from, target, to) {
  for (let at = 0, put = 0; at < source.length; at += from, put += to)
    for (let channel = 0; channel < Math.min(to, 3); channel++)
      target[put + channel] = source[at + (from === 1 ? 0 : channel)];
  return target;
}

async function restoreTile(session, header, bitmap, tile, canvas) {
  const { y, x } = tile, { scale, channels } = header, { ort } = runtime;
  const [height, width] = [y.last - y.first, x.last - x.first];
  const part = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  part.drawImage(bitmap, -x.first, -y.first);
  const rgba = part.getImageData(0, 0, width, height).data;
  const pixels = reshaped(rgba, 4, new Uint8Array(height * width * channels), channels);
  const { image_hat: output } = await session.run({
    compact_hat: new ort.Tensor("uint8", pixels, [1, height, width, channels]),
    quality: new ort.Tensor("int32", Int32Array.of(header.quality), [1]),
  });
  const [, rows, columns] = output.dims;
  const restored = new ImageData(columns, rows);
  reshaped(output.data, channels, restored.data.fill(255), 4);
  output.dispose();
  const [left, top] = [(x.start - x.first) * scale, (y.start - y.first) * scale];
  canvas.putImageData(restored, x.first * scale, y.first * scale, left, top,
                      (x.end - x.start) * scale, (y.end - y.start) * scale);
}

async function restoredCanvas({ header, jpeg }, card, report) {
  const bitmap = await decoded(jpeg, header);
  const session = await sessionOf(card.url);
  const canvas = new OffscreenCanvas(header.width, header.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new RestoreError("size", "larger than a picture may be in this browser");
  const [tile, reach] = [TILE, card.reach].map((pixels) => Math.ceil(pixels / header.scale));
  const tiles = tilesOf(bitmap.height, bitmap.width, tile, reach);
  for (const [number, each] of tiles.entries()) {
    await restoreTile(session, header, bitmap, each, context);
    report(number + 1, tiles.length);
  }
  bitmap.close();
  return canvas;
}

async function restore({ blob, as, models, maxPixels }, report) {
  const started = performance.now();
  const payload = readPayload(new Uint8Array(await blob.arrayBuffer())), { header } = payload;
  if (header.width * header.height > maxPixels)
    throw new RestoreError("size", `${header.width} x ${header.height} pixels: at most ${maxPixels} are taken`);
  const card = await cardOf(header, models);
  runtime ??= await start(await hasGpu());
  let canvas;
  try {
    canvas = await restoredCanvas(payload, card, report);
  } catch (error) {
    if (error instanceof RestoreError || runtime.provider === "wasm") throw error;
    // A graphics card that cannot: once more, and from then on, without it.
    sessions.clear();
    runtime = await start(false);
    canvas = await restoredCanvas(payload, card, report);
  }
  const result = as === "png" ? await canvas.convertToBlob() : canvas.transferToImageBitmap();
  return { result, header, seconds: (performance.now() - started) / 1000, provider: runtime.provider };
}

let last = Promise.resolve();

self.addEventListener("message", ({ data: { id, ...job } }) => {
  last = last.then(async () => {
    try {
      const report = (done, total) => self.postMessage({ id, done, total });
      const answer = await restore(job, report);
      self.postMessage({ id, ...answer }, answer.result instanceof ImageBitmap ? [answer.result] : []);
    } catch (error) {
      self.postMessage({ id, error: { reason: error.reason ?? "failed", message: error.message } });
    }
  });
});
