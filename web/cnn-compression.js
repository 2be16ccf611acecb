// Restores payloads of cnn_compression in a page.
//
//   <img src="photo.cnn.jpg" data-restore alt="...">
//   <script type="module">
//     import { restoreAll } from "./cnn-compression.js";
//     restoreAll();
//   </script>
//
// The picture is its own preview until then, and stays it where it cannot be restored.

import { RestoreError } from "./payload.js";

export { RestoreError };

const MAX_PIXELS = 64_000_000;
const MODELS = new URL("./models/", import.meta.url).href;
const IDLE = 20_000; // milliseconds after which the worker and its memory are given back

let worker = null, idle = null, next = 0;
const waiting = new Map(); // by id: { resolve, reject, report }

function receive({ data: { id, error, done, total, ...answer } }) {
  const { resolve, reject, report } = waiting.get(id);
  if (total) return report?.(done, total);
  waiting.delete(id);
  if (waiting.size === 0) idle = setTimeout(stop, IDLE);
  if (error) reject(new RestoreError(error.reason, error.message));
  else resolve(answer);
}

function stop(reason = "the worker ended") {
  worker?.terminate();
  worker = null;
  for (const { reject } of waiting.values()) reject(new RestoreError("failed", reason));
  waiting.clear();
}

function ask(blob, as, { models = MODELS, maxPixels = MAX_PIXELS, onProgress } = {}) {
  clearTimeout(idle);
  if (!worker) {
    worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    worker.addEventListener("message", receive);
    worker.addEventListener("error", (event) => stop(event.message ?? "the worker cannot be started"));
  }
  return new Promise((resolve, reject) => {
    const id = next++;
    waiting.set(id, { resolve, reject, report: onProgress });
    worker.postMessage({ id, blob, as, models: new URL(models, document.baseURI).href, maxPixels });
  });
}

// A payload, Blob, to its picture: ImageBitmap.
//
// Options: `models`, the address of the folder of models, by default models/ beside this file;
// `maxPixels`; `onProgress(done, total)`, called after each tile.
//
// Rejects with a RestoreError, whose `reason` is "foreign" (no payload), "damaged", "model" (one
// that the page does not have), "size" or "failed".
export async function restore(blob, options = {}) {
  return (await ask(blob, "bitmap", options)).result;
}

function tell(img, name, detail) {
  img.dispatchEvent(new CustomEvent(`restore${name}`, { bubbles: true, detail }));
}

// The restored picture has more pixels than the preview; the page's layout is not to know.
async function keepLayout(img) {
  await img.decode();
  const { naturalWidth: width, naturalHeight: height } = img;
  if (!img.hasAttribute("width") && !img.hasAttribute("height"))
    Object.assign(img, { width, height });
  img.style.aspectRatio = `${width} / ${height}`;
}

async function swapIn(img, png) {
  await keepLayout(img);
  const restored = new Image();
  restored.src = URL.createObjectURL(png); // kept as long as the page: it can be saved from there
  await restored.decode(); // now, so that nothing flickers
  img.removeAttribute("srcset");
  img.src = restored.src;
  await img.decode();
}

// Restores one <img> in place. Its attribute data-restore becomes "running", and then "done" or
// "failed". It tells of itself by events, which bubble: "restoreprogress" with { done, total } in
// `detail`, "restoredone" with { width, height, bytes, seconds, provider }, "restoreerror" with
// { error }. Rejects as `restore`.
export async function restoreImage(img, options = {}) {
  img.dataset.restore = "running";
  try {
    const response = await fetch(img.currentSrc || img.src);
    if (!response.ok) throw new RestoreError("failed", `${response.url} answers ${response.status}`);
    const blob = await response.blob();
    const onProgress = (done, total) => tell(img, "progress", { done, total });
    const { result, header, seconds, provider } = await ask(blob, "png", { ...options, onProgress });
    await swapIn(img, result);
    img.dataset.restore = "done";
    const { width, height } = header;
    tell(img, "done", { width, height, bytes: blob.size, seconds, provider });
  } catch (error) {
    img.dataset.restore = "failed";
    tell(img, "error", { error });
    throw error;
  }
}

// Restores every <img data-restore> under `root` that was not begun yet, in the document's order.
// Gives what became of each, as `Promise.allSettled`.
export function restoreAll({ root = document, ...options } = {}) {
  const images = [...root.querySelectorAll('img[data-restore=""]')];
  return Promise.allSettled(images.map((img) => restoreImage(img, options)));
}
