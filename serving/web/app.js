// A picture or a payload comes in, is compressed and restored by the server, and is shown.

import * as server from "./server.js";
import { isPayload, jpegOfSize, psnr, toBlob, toCanvas } from "./pictures.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const viewer = new Viewer($("stage"), $("divider"), $("zoom-shown"));
const RESTORED = "Restored";
if (server.elsewhere) $("elsewhere").textContent = `Pictures are sent to ${server.elsewhere}.`;
let original = null; // { name, file, canvas, png } of the picture that was dropped last
let running = null; // the AbortController of what is under way

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

// Runs a task on a file of this name; a later one takes its place. What fails leaves no picture.
async function run(name, task) {
  running?.abort();
  const mine = (running = new AbortController());
  $("stage").ariaBusy = "true";
  try {
    await task(mine.signal);
    if (running === mine) say("");
  } catch (error) {
    if (running !== mine || error.name === "AbortError") return;
    $("result").hidden = true;
    say(`${name}: ${error.message}`, true);
  } finally {
    if (running === mine) $("stage").ariaBusy = "false";
  }
}

function open(file) {
  original = null;
  $("compress").disabled = true;
  run(file.name, async (signal) => {
    say(`Reading ${file.name}…`);
    if (await isPayload(file)) return restore(file, signal);
    const canvas = await toCanvas(file);
    // A PNG of the canvas: what the server sees is what is compared, whatever the file was.
    const png = await toBlob(canvas, "image/png");
    signal.throwIfAborted(); // a later file may have come meanwhile
    original = { name: file.name, file, canvas, png };
    $("compress").disabled = false;
    return compress(signal);
  });
}

const again = () => original && run(original.name, compress);

async function compress(signal) {
  const { name, file, canvas, png } = original;
  const bySize = $("form").elements.goal.value === "size";
  if (bySize && !$("size").checkValidity()) throw new Error("Expected a size in kB, above 0.");
  say("Compressing…");
  const { payload_bytes: payload } = bySize
    ? await server.encodeToSize(png, Math.round(1000 * $("size").valueAsNumber), signal)
    : await server.encode(png, $("quality").valueAsNumber, signal);
  const jpeg = await jpegOfSize(canvas, payload.size);
  signal.throwIfAborted();
  say("Restoring…");
  const { image_bytes: restored } = await server.decode(payload, signal);
  const size = [canvas.width, canvas.height];
  const fits = jpeg.size <= payload.size;
  const times = (jpeg.size / payload.size).toFixed(1);
  const label = fits ? "JPEG of no more bytes" : `JPEG at its smallest, ${times} times the bytes`;
  show(name, payload, restored, [
    { label, blob: jpeg, canvas: await toCanvas(jpeg, ...size) },
    { label: "Original", blob: file, canvas },
    { label: "Preview in any viewer", blob: payload,
      canvas: await toCanvas(payload, ...size) },
  ], await toCanvas(restored), canvas, signal);
  $("note").textContent = fits ? "" : "This browser writes no JPEG of this picture as small as ours.";
}

async function restore(payload, signal) {
  say("Restoring…");
  const { image_bytes: restored } = await server.decode(payload, signal);
  const canvas = await toCanvas(restored);
  const preview = await toCanvas(payload, canvas.width, canvas.height);
  signal.throwIfAborted();
  const lefts = [{ label: "Preview in any viewer", blob: payload, canvas: preview }];
  show(payload.name, payload, restored, lefts, canvas, null, signal);
}

function show(name, payload, restored, lefts, right, reference, signal) {
  signal.throwIfAborted();
  const rows = [...lefts, { label: RESTORED, blob: payload, canvas: right }];
  $("figures").replaceChildren(...rows.map(({ label, blob, canvas }) => {
    const line = document.createElement("tr");
    const cells = [blob.size.toLocaleString(), ((8 * blob.size) / (right.width * right.height)).toFixed(3),
                   reference && canvas !== reference ? `${psnr(reference, canvas).toFixed(2)} dB` : "–"];
    line.append(cell("th", label), ...cells.map((text) => cell("td", text)));
    return line;
  }));
  $("sides").replaceChildren(...lefts.map(({ label, canvas }, index) => {
    const choice = document.createElement("label");
    const input = Object.assign(document.createElement("input"),
                                { type: "radio", name: "side", checked: index === 0 });
    input.addEventListener("change", () => compare(label, canvas));
    choice.append(input, ` ${label}`);
    return choice;
  }));
  const compare = (label, canvas) => {
    viewer.show(canvas, right, `${name}, left of the divider: ${label}`,
                `${name}, right of the divider: ${RESTORED}`);
    $("left-name").textContent = label;
  };
  $("right-name").textContent = RESTORED;
  $("note").textContent = "";
  for (const old of $("downloads").children) URL.revokeObjectURL(old.href);
  $("downloads").replaceChildren(link(payload, `${stem(name)}.cnn.jpg`, "Download the payload"),
                                 link(restored, `${stem(name)}.restored.png`, "Download the restored PNG"));
  $("result").hidden = false;
  compare(lefts[0].label, lefts[0].canvas);
}

function cell(kind, text) {
  const element = document.createElement(kind);
  if (kind === "th") element.scope = "row";
  element.textContent = text;
  return element;
}

function link(blob, name, text) {
  const a = document.createElement("a");
  Object.assign(a, { href: URL.createObjectURL(blob), download: name, textContent: text });
  return a;
}

const stem = (name) => name.replace(/\.cnn\.jpg$/i, "").replace(/\.[^.]*$/, "");

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  again();
});
$("file").addEventListener("change", (event) => {
  if (event.target.files[0]) open(event.target.files[0]);
  event.target.value = ""; // so that the same file may be chosen again
});
$("quality").addEventListener("input", () => {
  $("quality-shown").value = $("quality").value;
  $("form").elements.goal.value = "quality";
});
// Arrow keys change it in steps: the server is asked when they rest.
let resting;
$("quality").addEventListener("change", () => {
  clearTimeout(resting);
  resting = setTimeout(again, 300);
});
$("size").addEventListener("input", () => ($("form").elements.goal.value = "size"));
// Models to choose from, where the server has more than one of them.
const choices = $("form").elements.model;
choices.value = server.chosen();
server.alsoServed([...choices].map((input) => input.value)).then((others) => {
  const names = [server.chosen(), ...others];
  for (const input of choices) input.disabled = !names.includes(input.value);
  $("models").hidden = !choices.value || !others.length;
});
$("models").addEventListener("change", () => {
  server.choose(choices.value);
  again();
});
$("zoom-in").addEventListener("click", () => viewer.zoom(1.25));
$("zoom-out").addEventListener("click", () => viewer.zoom(0.8));
$("zoom-fit").addEventListener("click", () => viewer.fit());
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
