// Calls a model over TensorFlow Serving's REST: of this page's own site, or of ?server=URL, under the
// name `default`, or ?model=NAME, or what `choose` says.

const asked = new URLSearchParams(location.search);
const given = asked.get("server") ?? location.origin;
const base = (given.includes("://") ? given : `http://${given}`).replace(/\/$/, "");
const address = (name) => `${base}/v1/models/${encodeURIComponent(name)}`;
let models = [asked.get("model") ?? "default"]; // the one in use, and others that the server has

// Those of these names that the server has besides the model that is in use, or none.
export async function alsoServed(names) {
  const answers = names.map(async (name) => {
    if (name === models[0]) return true;
    return (await fetch(address(name)).catch(() => null))?.ok ?? false;
  });
  const served = await Promise.all(answers);
  models = [...new Set([models[0], ...names.filter((_, at) => served[at])])];
  return models.slice(1);
}

export const chosen = () => models[0];

export function choose(name) {
  models = [name, ...models.filter((other) => other !== name)];
}

// The site that gets the pictures, where it is not the page's own.
export const elsewhere = new URL(base).origin === location.origin ? null : new URL(base).origin;

export class ServerError extends Error {}

const ATTEMPTS = 5;
const BUSY = [429, 503];

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function toBase64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const parts = [];
  for (let at = 0; at < bytes.length; at += 0x8000)
    parts.push(String.fromCharCode(...bytes.subarray(at, at + 0x8000)));
  return btoa(parts.join(""));
}

function fromBase64(text, type) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type });
}

// One item: values are blobs and numbers; outputs are blobs where their name ends in `_bytes`.
async function predict(signature, item, types, signal, model = models[0]) {
  const instance = {};
  for (const [name, value] of Object.entries(item))
    instance[name] = value instanceof Blob ? { b64: await toBase64(value) } : value;
  const body = JSON.stringify({ signature_name: signature, instances: [instance] });
  let response, answer;
  try {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      response = await fetch(`${address(model)}:predict`, { method: "POST", body, signal,
                                    headers: { "Content-Type": "application/json" } });
      if (!BUSY.includes(response.status) || attempt === ATTEMPTS) break;
      await pause(300 * 2 ** attempt);
    }
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response?.status === 413) throw new ServerError("The picture is larger than the server takes.");
    if (response) throw new ServerError(`The server answers ${response.status}, and no prediction.`);
    throw new ServerError(`The server at ${base} cannot be reached.`);
  }
  if (!response.ok) throw new ServerError(`The server answers: ${answer.error ?? response.status}`);
  const result = answer.predictions[0];
  if (result.status) throw new ServerError(`The server says of this file: ${result.status}.`);
  for (const [name, type] of Object.entries(types)) result[name] = fromBase64(result[name].b64, type);
  return result;
}

export function encode(image, quality, signal) {
  const types = { payload_bytes: "image/jpeg" };
  return predict("encode", { image_bytes: image, quality }, types, signal);
}

export function encodeToSize(image, maxBytes, signal) {
  const types = { payload_bytes: "image/jpeg" };
  return predict("encode_to_size", { image_bytes: image, max_bytes: maxBytes }, types, signal);
}

// By the model in use, or by whichever other one has made it.
export async function decode(payload, signal) {
  let first;
  for (const model of models) {
    try {
      const types = { image_bytes: "image/png" };
      return await predict("decode", { payload_bytes: payload }, types, signal, model);
    } catch (error) {
      first ??= error;
      if (!error.message.includes("made by model")) throw error;
    }
  }
  throw first;
}
